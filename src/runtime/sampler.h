// The next token from logits, as transformers' generate() processes them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/splitmix64.h"

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

class Sampler {
 public:
  // Throws Error(invalid_argument) naming the option that is out of range.
  explicit Sampler(const SamplingOptions& options);

  // logits: [vocab], changed in place. `history`: every id so far, prompt included. Ties go to the smallest
  // id. Throws Error(invalid_argument) when no_repeat_ngram_size leaves no token.
  int32_t next(std::span<float> logits, std::span<const int32_t> history);

 private:
  double uniform();
  int32_t draw(std::span<float> logits);

  SamplingOptions options_;
  SplitMix64 random_;
};

}  // namespace fovea
