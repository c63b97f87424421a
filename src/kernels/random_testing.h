// Test data that is the same on every machine, seeded by a name.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/splitmix64.h"

namespace fovea {

class Random : public SplitMix64 {
 public:
  explicit Random(std::string_view seed) : SplitMix64(0xcbf29ce484222325ull) { absorb(seed); }
  // Uniform in [-1, 1), a multiple of 2^-23: exact in f32.
  float value() { return static_cast<float>(static_cast<int64_t>(bits() >> 40) - (1 << 23)) * 0x1p-23f; }
};

}  // namespace fovea
