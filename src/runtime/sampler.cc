#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace fovea {

namespace {

void require(bool condition, const std::string& what, const std::string& remedy) {
  if (!condition) throw Error(ErrorKind::invalid_argument, what, remedy);
}

// RepetitionPenaltyLogitsProcessor: every id seen is divided by the penalty if positive, multiplied if
// negative.
void penalise(std::span<float> logits, std::span<const int32_t> history, double penalty) {
  std::vector<int32_t> seen(history.begin(), history.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  const auto factor = static_cast<float>(penalty);
  for (const int32_t id : seen) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / factor : logit * factor;
  }
}

// NoRepeatNGramLogitsProcessor: what followed the last size - 1 ids before must not follow them again.
void forbid_repeats(std::span<float> logits, std::span<const int32_t> history, size_t size) {
  if (history.size() + 1 < size) return;
  const auto last = history.last(size - 1);
  for (size_t at = size - 1; at < history.size(); ++at) {
    const auto before = history.subspan(at - last.size(), last.size());
    if (!last.empty() && before.back() != last.back()) continue;  // most end here
    if (!std::equal(last.begin(), last.end(), before.begin())) continue;
    logits[static_cast<size_t>(history[at])] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {
  require(options.greedy || (options.temperature > 0 && std::isfinite(options.temperature)),
          fmt::format("temperature {} is not positive", options.temperature),
          "use --greedy for temperature 0");
  require(options.top_k >= 0, fmt::format("top-k {} is negative", options.top_k), "use 0 to turn top-k off");
  require(options.top_p >= 0 && options.top_p <= 1, fmt::format("top-p {} is outside [0, 1]", options.top_p),
          "use 1 to turn top-p off");
  require(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
          fmt::format("repetition penalty {} is not positive", options.repetition_penalty),
          "use 1 to turn it off");
  require(options.no_repeat_ngram_size >= 0,
          fmt::format("no-repeat n-gram size {} is negative", options.no_repeat_ngram_size),
          "use 0 to turn it off");
}

double Sampler::uniform() { return static_cast<double>(random_.bits() >> 11) * 0x1p-53; }

int32_t Sampler::next(std::span<float> logits, std::span<const int32_t> history) {
  if (options_.repetition_penalty != 1.0) penalise(logits, history, options_.repetition_penalty);
  if (options_.no_repeat_ngram_size > 0) {
    forbid_repeats(logits, history, static_cast<size_t>(options_.no_repeat_ngram_size));
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (!std::isfinite(*best)) {
    require(
        false,
        fmt::format("no_repeat_ngram_size {} leaves no token to go on with", options_.no_repeat_ngram_size),
        "use a larger size, or 0 to turn it off");
  }
  return options_.greedy ? static_cast<int32_t>(best - logits.begin()) : draw(logits);
}

// Temperature, then the k largest, then the smallest set whose mass reaches top_p, then one draw.
int32_t Sampler::draw(std::span<float> logits) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto larger = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const bool limited = options_.top_k > 0 && options_.top_k < static_cast<int64_t>(order.size());
  const size_t keep = limited ? static_cast<size_t>(options_.top_k) : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(keep), order.end(), larger);
  order.resize(keep);
  const double largest = static_cast<double>(logits[static_cast<size_t>(order.front())]);
  std::vector<double> mass;
  for (const int32_t id : order) {
    mass.push_back(
        std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - largest) / options_.temperature));
  }
  const double total = std::accumulate(mass.begin(), mass.end(), 0.0);
  size_t kept = 0;
  double kept_mass = 0;
  while (kept < mass.size() && (kept == 0 || kept_mass < options_.top_p * total)) kept_mass += mass[kept++];
  double target = uniform() * kept_mass;
  for (size_t i = 0; i < kept; ++i) {
    target -= mass[i];
    if (target < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace fovea
