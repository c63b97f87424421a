// How many tokens a step of speculation should verify: as many as promise the most tokens a second, by what
// this request has shown so far. Whatever it says changes the speed, never a token.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/prompt_lookup.h"

namespace fovea {

class DraftLength {
 public:
  // 1, 3, 7 or 15: with the token before them 2 to 16 rows, so that a few times describe them all.
  static constexpr int64_t kWidths = 5, kMost = (1 << (kWidths - 1)) - 1;

  // A step of `rows` rows (1, 2, 4, 8 or 16) took so long.
  void timed(int64_t rows, double seconds);
  // Whether the token that a match of this length announced was the one that came; known of every token,
  // verified or not.
  void announced(int64_t match, bool came);
  // The length to verify, at most `most`, where a match announces tokens. 0: a plain step. Now and then a
  // length that does not seem to pay, to see whether it does.
  int64_t choose(int64_t match, int64_t most);
  // How likely the first 1, 2, ... `count` tokens that a match announces all come.
  void chances(int64_t match, int64_t count, std::vector<double>& to) const;

 private:
  static int64_t length_of(size_t width) { return (int64_t{1} << width) - 1; }
  double rate(int64_t match) const;
  double seconds(size_t width) const;
  double tokens(int64_t match, int64_t length) const;  // expected of a step
  int64_t probe(int64_t match, int64_t most);

  std::array<double, kWidths> times_{};  // of steps of 1 << width rows; 0: never made
  std::array<double, PromptLookup::kLongest + 1> rates_{.5, .5, .5, .5, .5};  // by length of the match
  int64_t declined_ = 0, patience_ = 16;  // matches not used since the last step of several rows
};

}  // namespace fovea
