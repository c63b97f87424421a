#include "audit/score_error.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fovea {

namespace {

double unit_roundoff(DType type) { return epsilon_of(type) / 2; }

bool is_low(DType type) { return type == DType::bf16 || type == DType::f16; }

// Whether something else than the score itself meets the rounding.
bool is_cured(const AttentionPrecision& precision) {
  return precision.score_shift != ScoreShift::none || precision.k_centring != KCentring::none;
}

// With `before` and `split` it is q (and k) that is scaled and rounded, and only the product is a score; with
// `fused` only the scaled score is stored.
bool rounds_product(const AttentionPrecision& p) {
  return p.scale != ScalePlacement::fused && is_low(p.scores);
}
bool rounds_scaled(const AttentionPrecision& p) {
  return p.scale != ScalePlacement::before && p.scale != ScalePlacement::split && is_low(p.scaled);
}

}  // namespace

double predicted_attention_error(const AttentionPrecision& precision, double largest_score, double spread) {
  if (is_cured(precision)) return std::numeric_limits<double>::quiet_NaN();
  constexpr double kOneNode = 0.424, kHalfUlp = 0.42;
  double squared = 0;
  if (rounds_product(precision)) squared += std::pow(kOneNode * unit_roundoff(precision.scores), 2);
  if (rounds_scaled(precision)) squared += std::pow(kOneNode * unit_roundoff(precision.scaled), 2);
  if (squared == 0) squared = std::pow(kOneNode * unit_roundoff(DType::f32), 2);
  const double x = spread * largest_score * std::sqrt(squared);
  const double scores = x / std::sqrt(1 + x * x);
  const double probabilities = kHalfUlp * spread * epsilon_of(precision.probabilities);
  const double output = kHalfUlp * epsilon_of(precision.output);
  return std::sqrt(scores * scores + probabilities * probabilities + output * output);
}

bool scores_are_rounded(const AttentionPrecision& precision) {
  return !is_cured(precision) && (rounds_product(precision) || rounds_scaled(precision));
}

bool scores_are_rounded(const TowerPrecision& layer) {
  return !layer.bias_split && scores_are_rounded(layer.attention);
}

bool row_at_risk(const AttentionPrecision& precision, double largest_score) {
  if (!scores_are_rounded(precision)) return false;
  const double product = rounds_product(precision) ? unit_roundoff(precision.scores) : 0;
  const double scaled = rounds_scaled(precision) ? unit_roundoff(precision.scaled) : 0;
  return largest_score * std::max(product, scaled) > 0.125;
}

bool score_overflows(const AttentionPrecision& precision, double largest_score, double scale) {
  constexpr double kBeyondF16 = 65520;  // rounds to infinity
  if (rounds_product(precision) && precision.scores == DType::f16) {
    const bool scaled_before =
        precision.scale == ScalePlacement::before || precision.scale == ScalePlacement::split;
    if (largest_score / (scaled_before ? 1 : scale) >= kBeyondF16) return true;
  }
  return rounds_scaled(precision) && precision.scaled == DType::f16 && largest_score >= kBeyondF16;
}

}  // namespace fovea
