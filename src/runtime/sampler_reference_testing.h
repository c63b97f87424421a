// The definition of a draw as it reads: sort all ids, sum all masses in that order. Slow, and what Sampler
// and TokenDraw must equal id for id.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <vector>

#include "base/splitmix64.h"
#include "runtime/sampler.h"

namespace fovea {

struct SortedMasses {
  std::vector<int32_t> order;
  std::vector<double> mass;
  double total;
};

inline SortedMasses sorted_masses(std::span<const float> logits, double temperature, int64_t top_k) {
  SortedMasses sorted;
  std::vector<int32_t>& order = sorted.order;
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  if (top_k > 0 && top_k < std::ssize(order)) order.resize(static_cast<size_t>(top_k));
  const auto largest = static_cast<double>(logits[static_cast<size_t>(order.front())]);
  for (const int32_t id : order) {
    sorted.mass.push_back(
        std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - largest) / temperature));
  }
  sorted.total = std::accumulate(sorted.mass.begin(), sorted.mass.end(), 0.0);
  return sorted;
}

inline int32_t reference_draw(std::span<const float> logits, const SamplingOptions& options, double random) {
  const auto [order, mass, total] = sorted_masses(logits, options.temperature, options.top_k);
  size_t kept = 0;
  double kept_mass = 0;
  while (kept < mass.size() &&
         (kept == 0 || (kept_mass < options.top_p * total && mass[kept] >= options.min_p))) {
    kept_mass += mass[kept++];
  }
  double target = random * kept_mass;
  for (size_t i = 0; i < kept; ++i) {
    target -= mass[i];
    if (target < 0) return order[i];
  }
  return order[kept - 1];
}

// What the history makes of the logits; its first `prompt` ids are the prompt's.
inline void reference_process(std::span<float> logits, const SamplingOptions& options,
                              std::span<const int32_t> history, size_t prompt) {
  for (const LogitBias& bias : options.logit_bias) logits[static_cast<size_t>(bias.id)] += bias.added;
  const auto penalty = static_cast<float>(options.repetition_penalty);
  if (penalty != 1) {
    for (const int32_t id : std::set<int32_t>(history.begin(), history.end())) {
      float& logit = logits[static_cast<size_t>(id)];
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  for (const int32_t id :
       std::set<int32_t>(history.begin() + static_cast<std::ptrdiff_t>(prompt), history.end())) {
    const auto times = std::count(history.begin() + static_cast<std::ptrdiff_t>(prompt), history.end(), id);
    logits[static_cast<size_t>(id)] -=
        static_cast<float>(options.frequency_penalty * static_cast<double>(times) + options.presence_penalty);
  }
  const auto size = static_cast<size_t>(options.no_repeat_ngram_size);
  if (size == 0) return;
  for (size_t at = size - 1; at < history.size(); ++at) {
    const auto before = history.subspan(at + 1 - size, size - 1), last = history.last(size - 1);
    if (!std::equal(last.begin(), last.end(), before.begin())) continue;
    logits[static_cast<size_t>(history[at])] = -std::numeric_limits<float>::infinity();
  }
}

// As Sampler::next, with `random` as the sampler's numbers.
inline int32_t reference_next(std::vector<float> logits, const SamplingOptions& options,
                              std::span<const int32_t> history, size_t prompt, SplitMix64& random) {
  reference_process(logits, options, history, prompt);
  if (options.greedy) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  return reference_draw(logits, options, static_cast<double>(random.bits() >> 11) * 0x1p-53);
}

}  // namespace fovea
