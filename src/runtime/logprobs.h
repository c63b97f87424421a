// What the model itself thought of a token: the log probabilities of the raw logits, before repetition
// penalty, n-gram ban, temperature, top-k and top-p. So do OpenAI's API and vLLM (logprobs_mode
// "raw_logprobs"): they are comparable between requests, whereas after Qwen's own defaults (temperature 1e-6)
// nearly every chosen token would have 0 and all others -inf.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fovea {

struct TokenLogprob {
  int32_t id;
  double logprob;  // natural; -inf of a token that cannot come
};

struct Logprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // the likeliest first, the smallest id first among equals
};

inline constexpr int64_t kMostTopLogprobs = 20;  // as in OpenAI's API

// logits: [vocab], finite or -inf, at least one finite: a row as the model gave it, which Sampler::next
// leaves as it was. The normaliser is a sum in f64 in a fixed order: results depend on the row alone, with an
// error below 2^-39 + 2^-52 |logprob|. From any thread. `top_count`: how many of `top`, at most vocab are
// given. Throws Error(invalid_argument) when it is not from 0 to kMostTopLogprobs or `chosen` is no id of the
// row.
Logprobs logprobs_of(std::span<const float> logits, int32_t chosen, int64_t top_count);

}  // namespace fovea
