#include "audit/statistics.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace fovea {

Interval wilson_interval(int64_t correct, int64_t count) {
  if (count == 0) return {};
  constexpr double z = 1.959963984540054;  // 97.5 % of the normal distribution lie below
  const auto n = static_cast<double>(count);
  const double p = static_cast<double>(correct) / n, scale = 1 + z * z / n;
  const double centre = (p + z * z / (2 * n)) / scale;
  const double half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale;
  // At 0 and at 1 the bound is met exactly; rounding must not leave it.
  return {correct == 0 ? 0 : std::max(0.0, centre - half),
          correct == count ? 1 : std::min(1.0, centre + half)};
}

double quantile(const std::vector<double>& sorted, double share) {
  FOVEA_CHECK(!sorted.empty());
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  const double rest = place - static_cast<double>(below);
  return sorted[below] + rest * (sorted[below + 1] - sorted[below]);
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

namespace {

// log(sum(exp(logits))), safe for any finite logits.
double log_sum_exp(const float* logits, int64_t count) {
  const double largest = static_cast<double>(*std::max_element(logits, logits + count));
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
  return largest + std::log(sum);
}

}  // namespace

double kl_divergence(const float* p_logits, const float* q_logits, int64_t vocab) {
  const double p_norm = log_sum_exp(p_logits, vocab), q_norm = log_sum_exp(q_logits, vocab);
  double sum = 0;
  for (int64_t i = 0; i < vocab; ++i) {
    const double log_p = static_cast<double>(p_logits[i]) - p_norm;
    const double log_q = static_cast<double>(q_logits[i]) - q_norm;
    sum += std::exp(log_p) * (log_p - log_q);
  }
  return std::max(0.0, sum);
}

}  // namespace fovea
