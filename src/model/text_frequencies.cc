#include "model/text_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/elementwise.h"

namespace fovea {
namespace {

// The pairs between which frequencies are mixed: below stay those that turn often within the original length,
// above are stretched those that turn seldom. All in double, as Python computes it.
struct Bounds {
  double low, high;
};

Bounds bounds_of(const YarnScaling& yarn, double theta, int64_t dim) {
  const auto pair_that_turns = [&](double times) {
    const double turns =
        static_cast<double>(yarn.original_max_position_embeddings) / (times * 2 * std::numbers::pi);
    return static_cast<double>(dim) * std::log(turns) / (2 * std::log(theta));
  };
  double low = pair_that_turns(yarn.beta_fast), high = pair_that_turns(yarn.beta_slow);
  if (yarn.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;  // as transformers: a step instead of a ramp
  return {low, high};
}

// _compute_yarn_parameters of transformers, in its order of operations; Real is float there.
template <typename Real>
Real frequency(const YarnScaling& yarn, double theta, int64_t dim, const Bounds& bounds, int64_t pair) {
  const Real exponent = static_cast<Real>(2 * pair) / static_cast<Real>(dim);
  const Real period = static_cast<Real>(std::pow(theta, static_cast<double>(exponent)));
  const Real plain = 1 / period, stretched = 1 / (static_cast<Real>(yarn.factor) * period);
  const Real ramp = std::clamp(
      (static_cast<Real>(pair) - static_cast<Real>(bounds.low)) / static_cast<Real>(bounds.high - bounds.low),
      Real{0}, Real{1});
  const Real kept = 1 - ramp;
  return stretched * (1 - kept) + plain * kept;
}

}  // namespace

std::vector<double> text_frequencies(const TextConfig& config, DType type) {
  const int64_t dim = config.head_dim;
  if (!config.yarn) return inverse_frequencies(config.rope_theta, dim, type);
  const Bounds bounds = bounds_of(*config.yarn, config.rope_theta, dim);
  std::vector<double> result;
  for (int64_t pair = 0; pair < dim / 2; ++pair) {
    result.push_back(
        type == DType::f64
            ? frequency<double>(*config.yarn, config.rope_theta, dim, bounds, pair)
            : double{rounded(frequency<float>(*config.yarn, config.rope_theta, dim, bounds, pair), type)});
  }
  return result;
}

float text_rotary_scale(const TextConfig& config) {
  return config.yarn ? static_cast<float>(config.yarn->attention_factor) : 1.f;
}

}  // namespace fovea
