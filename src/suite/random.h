// Randomness of the suites: SplitMix64 (Steele, Lea, Flood 2014), the same on every machine. Every record of
// a suite has a generator of its own, so that record i does not depend on how many are made.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace fovea {

class SuiteRandom {
 public:
  SuiteRandom(uint64_t seed, std::string_view kind, uint64_t index) : state_(seed) {
    bits();
    for (const char c : kind) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
    state_ ^= bits() + index * 0xd1342543de82ef95ull;
    bits();
  }

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
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

 private:
  uint64_t state_;
};

}  // namespace fovea
