#include "runtime/logprobs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "runtime/logit_blocks.h"

namespace fovea {

namespace {

// log(sum of exp(logit)). One sum for each place within a block, from block to block, then their sum.
double log_of_sum(const LogitBlocks& blocks) {
  const auto largest = static_cast<double>(blocks.largest().logit);
  std::array<double, LogitBlocks::kIds> sums{}, terms;
  LogitBlocks::Block changed;
  for (int64_t b = 0; b < blocks.blocks(); ++b) {
    exponentials_of(blocks.block(b, changed), largest, 1, terms);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += terms[i];
  }
  return largest + std::log(std::accumulate(sums.begin(), sums.end(), 0.0));
}

}  // namespace

Logprobs logprobs_of(std::span<const float> logits, int32_t chosen, int64_t top_count) {
  if (top_count < 0 || top_count > kMostTopLogprobs) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} log probabilities for each token are asked for", top_count),
                fmt::format("ask for 0 to {}", kMostTopLogprobs));
  }
  if (chosen < 0 || chosen >= std::ssize(logits)) {
    throw Error(ErrorKind::invalid_argument, fmt::format("token {} is not one of {}", chosen, logits.size()),
                "give an id of the vocabulary");
  }
  LogitBlocks blocks;
  blocks.read(logits);
  const double normaliser = log_of_sum(blocks);
  const auto logprob = [&](int32_t id) {
    return TokenLogprob{id, static_cast<double>(logits[static_cast<size_t>(id)]) - normaliser};
  };
  Logprobs result{logprob(chosen), {}};
  if (top_count == 0) return result;
  std::vector<RankedLogit> likeliest;
  blocks.collect(blocks.reached_by(top_count), blocks.ids(), likeliest);
  const int64_t count = std::min(top_count, std::ssize(likeliest));
  std::partial_sort(likeliest.begin(), likeliest.begin() + count, likeliest.end(), ranks_before);
  for (int64_t i = 0; i < count; ++i) result.top.push_back(logprob(likeliest[static_cast<size_t>(i)].id));
  return result;
}

}  // namespace fovea
