// How long steps and slices of pictures take, as measured so far.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fovea {

class Pace {
 public:
  // A step of few rows takes the time of reading the weights, each further row its own.
  void rows(int64_t count, double seconds) {
    if (count <= kFewRows) return learn(few_, seconds);
    learn(row_, std::max(seconds - few_, 0.) / static_cast<double>(count));
  }
  void slice(int64_t patches, double seconds) { learn(patch_, seconds / static_cast<double>(patches)); }

  // At least 1; before anything was measured, few.
  int64_t rows_within(double seconds) const { return within(row_, seconds - few_, 32); }
  int64_t patches_within(double seconds) const { return within(patch_, seconds, 16); }

 private:
  static constexpr int64_t kFewRows = 4, kMost = 1 << 30;

  // The newer, the more it counts: a neighbour may come and go.
  static void learn(double& known, double now) { known = known == 0 ? now : 0.7 * known + 0.3 * now; }
  static int64_t within(double each, double seconds, int64_t unmeasured) {
    if (each == 0) return unmeasured;
    return static_cast<int64_t>(std::clamp(seconds / each, 1.0, double{kMost}));
  }

  double few_ = 0, row_ = 0, patch_ = 0;  // seconds
};

}  // namespace fovea
