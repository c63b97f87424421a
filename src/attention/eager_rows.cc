#include "attention/eager_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention/rows.h"

namespace fovea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kFp16Max = 65504.f;
constexpr int64_t kCentreBlock = 256;  // KCentring::block256

float lowest_finite(DType type) {
  switch (type) {
    case DType::f32:
    case DType::f64:
    case DType::i8:
      return std::numeric_limits<float>::lowest();
    case DType::bf16:
      return f32_from_bf16(0xff7f);
    case DType::f16:
      return -kFp16Max;
  }
  return 0.f;
}

float mean_of(const float* x, int64_t count) {
  double partial[4] = {};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int64_t l = 0; l < 4; ++l) partial[l] += double{x[i + l]};
  }
  for (; i < count; ++i) partial[0] += double{x[i]};
  return static_cast<float>(((partial[0] + partial[1]) + (partial[2] + partial[3])) /
                            static_cast<double>(count));
}

// The bits of a non-negative float grow with it, and those of NaN are the largest: integers vectorise.
float largest_magnitude(const float* x, int64_t count) {
  int32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    largest = std::max(largest, bits & 0x7fffffff);
  }
  float result;
  std::memcpy(&result, &largest, sizeof result);
  return result;
}

void add_to(float* x, int64_t count, float term) {
  for (int64_t i = 0; i < count; ++i) x[i] += term;
}

bool is_narrow(DType type) { return type == DType::bf16 || type == DType::f16; }

}  // namespace

EagerRows::EagerRows(const AttentionProblem& problem)
    : problem_(problem), nodes_(problem.precision), wide_(nodes_) {
  wide_.scores = DType::f32;
  wide_.inf_to_zero = false;
  const bool operands = nodes_.scale == ScalePlacement::before || nodes_.scale == ScalePlacement::split;
  if (!operands) wide_.scaled = DType::f32;
  for (const DType type : {nodes_.scores, operands ? nodes_.scores : nodes_.scaled}) {
    roundoff_ = std::max(roundoff_, epsilon_of(type) / 2);
    narrow_fp16_ = narrow_fp16_ || type == DType::f16;
  }
}

float EagerRows::operand_factor() const {
  if (nodes_.scale == ScalePlacement::before) return problem_.scale;
  if (nodes_.scale != ScalePlacement::split) return 1.f;
  return static_cast<float>(std::sqrt(1 / std::sqrt(static_cast<double>(problem_.q.head_dim))));
}

void EagerRows::scale_operand(float* x, int64_t count) const {
  problem_.context.kernels->scale(x, operand_factor(), x, count, DType::f32);
  round_to(*problem_.context.kernels, nodes_.scaled, x, count);
}

// What turns a raw product into a scaled score.
float EagerRows::factor_of_raw() const {
  const bool operands = nodes_.scale == ScalePlacement::before || nodes_.scale == ScalePlacement::split;
  return operands ? 1.f : problem_.scale;
}

float EagerRows::to_probabilities(int64_t query, int64_t keys, float* row, HeadGuard* seen) const {
  const int64_t visible = problem_.causal ? causal_keys(problem_, query) : keys;
  if (visible == 0 && nodes_.mask == MaskAdd::skip) {  // nothing to see
    std::fill_n(row, keys, 0.f);
    return 0.f;
  }
  std::vector<float> corrections;
  if (nodes_.k_centring != KCentring::none) centre(row, visible, keys, corrections);
  const bool widen = seen != nullptr && at_risk(row, visible, keys, *seen);
  const AttentionPrecision& nodes = widen ? wide_ : nodes_;
  scale_scores(nodes, row, visible, keys);
  mask_scores(nodes, row, visible, keys);
  for (size_t block = 0; block < corrections.size(); ++block) {
    const auto first = static_cast<int64_t>(block) * kCentreBlock;
    add_to(row + first, std::min(kCentreBlock, keys - first), corrections[block]);
  }
  return make_probabilities(keys, row);
}

// K less a centre c, as scores: q.(k - c) = q.k - q.c, in f32 before any rounding. q.c is the mean of the raw
// products, over the keys the query sees, so that neither chunks nor later keys can change it; per block of
// keys, the centre's part is given back in fp32 after the rounding, relative to its largest.
void EagerRows::centre(float* row, int64_t visible, int64_t keys, std::vector<float>& corrections) const {
  if (visible == 0) return;
  if (nodes_.k_centring == KCentring::mean) return add_to(row, keys, -mean_of(row, visible));
  float highest = -kInfinity;
  for (int64_t first = 0; first < visible; first += kCentreBlock) {
    const float mean = mean_of(row + first, std::min(kCentreBlock, visible - first));
    add_to(row + first, std::min(kCentreBlock, keys - first), -mean);
    corrections.push_back(mean);
    highest = std::max(highest, mean);
  }
  for (float& correction : corrections) correction = (correction - highest) * factor_of_raw();
}

// inf_to_zero makes masked scores of -16 or less visible: -65504 - 16 is -inf in fp16.
bool EagerRows::unmasks(const float* masked, int64_t count) const {
  const float factor = factor_of_raw();
  return std::any_of(masked, masked + count, [factor](float raw) { return raw * factor < -15.9f; });
}

// The O(n) sentinel: max|s| of what will be rounded. Behind a shift to the top (row maximum, bias split) the
// scores far below it are large and weigh nothing: there the highest score alone counts.
bool EagerRows::at_risk(const float* row, int64_t visible, int64_t keys, HeadGuard& seen) const {
  const float magnitude = largest_magnitude(row, visible);
  float stored = magnitude;
  if (nodes_.score_shift == ScoreShift::row_max) {
    stored = std::isfinite(magnitude) ? 0.f : magnitude;
  } else if (problem_.key_bias.present() && std::isfinite(magnitude)) {
    stored = visible > 0 ? std::abs(problem_.context.kernels->max_value(row, visible)) : 0.f;
  }
  const float scaled = stored * factor_of_raw();
  const bool coarse = double{scaled} * roundoff_ > double{problem_.guard->options.tau};
  const bool overflow = !(stored <= kFp16Max);
  const bool risk = coarse || !std::isfinite(stored) || (overflow && narrow_fp16_) ||
                    (nodes_.inf_to_zero && unmasks(row + visible, keys - visible));
  const bool widen = risk && problem_.guard->options.mode == GuardMode::escalate;
  ++seen.rows;
  seen.at_risk += risk ? 1 : 0;
  seen.would_be_at_risk += risk ? 1 : 0;
  seen.overflows += overflow ? 1 : 0;
  seen.recomputed += widen ? 1 : 0;
  if (std::isfinite(scaled)) seen.largest = std::max(seen.largest, scaled);
  return widen;
}

void EagerRows::scale_scores(const AttentionPrecision& nodes, float* row, int64_t visible,
                             int64_t keys) const {
  round_to(*problem_.context.kernels, nodes.scores, row, keys);
  switch (nodes.scale) {
    case ScalePlacement::after:
    case ScalePlacement::fused:
      problem_.context.kernels->scale(row, problem_.scale, row, keys, DType::f32);
      break;
    case ScalePlacement::divide: {
      const auto divisor = static_cast<float>(std::sqrt(static_cast<double>(problem_.q.head_dim)));
      for (int64_t key = 0; key < keys; ++key) row[key] /= divisor;
      break;
    }
    case ScalePlacement::before:
    case ScalePlacement::split:
      return;
  }
  // With scale=fused nothing has been rounded yet (nor may it have been: check_nodes of the policy).
  if (nodes.score_shift == ScoreShift::row_max && visible > 0) {
    add_to(row, keys, -problem_.context.kernels->max_value(row, visible));
  }
  round_to(*problem_.context.kernels, nodes.scaled, row, keys);
}

void EagerRows::mask_scores(const AttentionPrecision& nodes, float* row, int64_t visible,
                            int64_t keys) const {
  if (nodes.mask == MaskAdd::skip) {
    std::fill(row + visible, row + keys, -kInfinity);
  } else if (problem_.causal) {
    add_to(row + visible, keys - visible, lowest_finite(nodes.scaled));
    round_to(*problem_.context.kernels, nodes.scaled, row + visible, keys - visible);
  }
  if (nodes.inf_to_zero) {
    for (int64_t key = 0; key < keys; ++key) row[key] = std::isinf(row[key]) ? 0.f : row[key];
  }
}

// One row from scores to P, rounded; returns what P.V is to be divided by.
float EagerRows::make_probabilities(int64_t keys, float* row) const {
  const int64_t columns = round_up(keys, kKeyTile);
  std::fill(row + keys, row + columns, -kInfinity);
  const float highest = problem_.context.kernels->max_value(row, columns);
  const bool narrow = is_narrow(nodes_.softmax);
  const float sum = narrow ? narrow_exp_sum(columns, highest, row)
                           : problem_.context.kernels->exp_sum(row, columns, 1.f, highest);
  if (!nodes_.normalised) {
    round_to(*problem_.context.kernels, nodes_.probabilities, row, keys);
    return sum;
  }
  for (int64_t key = 0; key < keys; ++key) row[key] /= sum;
  if (narrow) round_to(*problem_.context.kernels, nodes_.softmax, row, keys);
  round_to(*problem_.context.kernels, nodes_.probabilities, row, keys);
  return 1.f;
}

// Softmax as a kernel without wide accumulators would: difference, exponential and running sum rounded.
float EagerRows::narrow_exp_sum(int64_t columns, float highest, float* row) const {
  add_to(row, columns, -highest);
  round_to(*problem_.context.kernels, nodes_.softmax, row, columns);
  problem_.context.kernels->exp_sum(row, columns, 1.f, 0.f);
  round_to(*problem_.context.kernels, nodes_.softmax, row, columns);
  float sum = 0;
  for (int64_t key = 0; key < columns; ++key) sum = rounded(sum + row[key], nodes_.softmax);
  return sum;
}

}  // namespace fovea
