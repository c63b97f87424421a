// Randomness of the suites. Every record of a suite has a generator of its own, so that record i does not
// depend on how many are made.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/splitmix64.h"

namespace fovea {

class SuiteRandom : public SplitMix64 {
 public:
  SuiteRandom(uint64_t seed, std::string_view kind, uint64_t index) : SplitMix64(seed) {
    bits();
    absorb(kind);
    state_ ^= bits() + index * 0xd1342543de82ef95ull;
    bits();
  }

  // Uniform in [0, count).
  int64_t below(int64_t count) {
    return static_cast<int64_t>((bits() >> 32) * static_cast<uint64_t>(count) >> 32);
  }
  // Uniform in [low, high].
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }
  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53);
  }
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[static_cast<size_t>(below(static_cast<int64_t>(i)))]);
    }
  }
};

}  // namespace fovea
