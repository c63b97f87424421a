// How many announced tokens a step of several requests should verify, and whose: as long as one more row
// promises more tokens a second of all requests together, by what steps of so many rows have taken so far.
// Whatever it says changes the speed, never a token.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace fovea {

// Of steps that decode only.
class StepTimes {
 public:
  void timed(int64_t rows, double seconds);
  // Between what was measured, or a row beyond it; 0: not known.
  double seconds(int64_t rows) const;
  // The most rows that seconds() may be asked for.
  int64_t known_rows() const;

 private:
  static constexpr int64_t kMost = 64;

  std::array<double, kMost + 1> times_{};  // by rows; 0: never made
};

// chances[i][l]: how likely the first l + 1 tokens announced to request i all come; falling. Returns how many
// of each to verify in a step that computes a row for each request anyway.
std::vector<int64_t> share_drafts(const StepTimes& times, std::span<const std::vector<double>> chances);

}  // namespace fovea
