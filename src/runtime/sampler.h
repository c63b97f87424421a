// The next token from logits, as transformers' generate() processes them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/splitmix64.h"
#include "runtime/logit_blocks.h"
#include "runtime/token_draw.h"

namespace fovea {

struct SamplingOptions {
  bool greedy = true;
  double temperature = 1.0;
  int64_t top_k = 50;  // 0: off
  double top_p = 1.0;
  double repetition_penalty = 1.0;  // over prompt and answer; greedy too
  uint64_t seed = 0;
  int64_t no_repeat_ngram_size = 0;  // over prompt and answer; greedy too; 0: off
};

// One request's: it remembers which ids were seen and where its random numbers stand, so that a request's
// tokens depend on nothing but its own logits, ids and seed. For one thread at a time.
class Sampler {
 public:
  // Throws Error(invalid_argument) naming the option that is out of range.
  explicit Sampler(const SamplingOptions& options);

  // logits: [vocab], finite or -inf, as the model gave them; they stay so. `history`: every id so far, prompt
  // included, all below vocab. The caller owes that it begins with the history of the call before; tokens
  // that were proposed and rejected must never have been in it. Only what is new is read, unless
  // no_repeat_ngram_size wants all of it. Ties go to the smallest id. Each call that is not greedy takes one
  // random number. Allocates in its first calls, then no more (see TokenDraw for the one exception). Throws
  // Error(invalid_argument) when no_repeat_ngram_size leaves no token.
  int32_t next(std::span<const float> logits, std::span<const int32_t> history);

 private:
  double uniform();
  void learn(std::span<const int32_t> history, size_t vocab);
  void forbid_repeats(std::span<const int32_t> history);

  SamplingOptions options_;
  SplitMix64 random_;
  LogitBlocks blocks_;
  TokenDraw draw_;
  std::vector<uint64_t> seen_, forbidden_;  // sets of ids, empty while no option wants them
  size_t known_ = 0;                        // ids of the history that were learnt
  int32_t last_known_ = 0;
};

}  // namespace fovea
