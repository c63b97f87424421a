// The one source of randomness: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", 2014). Small, and the same numbers on every machine and with every standard library.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/fnv1a.h"

namespace fovea {

inline constexpr uint64_t kSplitMixStep = 0x9e3779b97f4a7c15u;

// The bits of a counter that advances by kSplitMixStep.
inline uint64_t splitmix64(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t state) : state_(state) {}

  uint64_t bits() { return splitmix64(state_ += kSplitMixStep); }

 protected:
  // Mixes a name into the state.
  void absorb(std::string_view name) { state_ = fnv1a(name, state_); }

  uint64_t state_;
};

}  // namespace fovea
