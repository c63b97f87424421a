#include "audit/row_examination.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/rows.h"
#include "audit/score_error.h"
#include "base/error.h"
#include "base/parallel.h"

namespace fovea {

namespace {

// Keys or values of one head as f32, [tokens, head_dim].
std::vector<float> widened(const HeadsView& view, int64_t head) {
  std::vector<float> values(static_cast<size_t>(view.tokens * view.head_dim));
  for (int64_t t = 0; t < view.tokens; ++t) {
    float* to = values.data() + t * view.head_dim;
    for (int64_t i = 0; i < view.head_dim; ++i) to[i] = static_cast<float>(value_at(view, t, head, i));
  }
  return values;
}

struct KeyRange {
  int64_t first, end;
};

KeyRange visible_keys(const AttentionProblem& problem, int64_t row) {
  if (problem.causal) return {0, row + 1 + problem.k.tokens - problem.q.tokens};
  const auto& bounds = problem.cu_seqlens;
  if (bounds.empty()) return {0, problem.k.tokens};
  const auto end = std::upper_bound(bounds.begin(), bounds.end(), row);
  return {*(end - 1), *end};
}

double dot(const float* a, const float* b, int64_t count) {
  // Four partial sums, so that the compiler may use vectors; f64 holds every product of two f32 exactly.
  double sums[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) {
    for (int64_t lane = 0; lane < 4; ++lane) {
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sums[0] + sums[1] + sums[2] + sums[3];
}

// The rotated bias that keys are kept without.
void add_bias(const KeyBias& bias, int64_t head, int64_t dim, std::vector<float>& keys) {
  if (!bias.present()) return;
  const int64_t half = dim / 2, tokens = std::ssize(keys) / dim;
  const float* b = bias.bias + head * dim;
  for (int64_t t = 0; t < tokens; ++t) {
    const float *cos = bias.cos_of(t, half), *sin = bias.sin_of(t, half);
    float* key = keys.data() + t * dim;
    for (int64_t i = 0; i < half; ++i) {
      key[i] += b[i] * cos[i] - b[i + half] * sin[i];
      key[i + half] += b[i + half] * cos[i] + b[i] * sin[i];
    }
  }
}

// One query row of one head against exact attention.
class RowExamination {
 public:
  RowExamination(const AttentionProblem& problem, const std::vector<float>& keys,
                 const std::vector<float>& values)
      : problem_(problem), keys_(keys), values_(values), dim_(problem.q.head_dim) {}

  void add(int64_t row, int64_t head, bool measure, HeadSums& sums) {
    range_ = visible_keys(problem_, row);
    score(row, head);
    const AttentionPrecision precision = effective_precision();
    ++sums.rows;
    sums.largest_score = std::max(sums.largest_score, largest_);
    // With a bias split it is not these scores that are rounded.
    const bool split = problem_.key_bias.present() && scores_are_rounded(precision);
    if (!split) {
      sums.at_risk += row_at_risk(precision, largest_);
      sums.overflows += score_overflows(precision, largest_, static_cast<double>(problem_.scale));
    }
    if (!measure) return;
    attend();
    const float* out = problem_.out + (row * problem_.q.heads + head) * dim_;
    const double norm = norm_of_output();
    if (!(norm > 0)) return;  // no direction to be relative to
    double difference = 0;
    for (int64_t i = 0; i < dim_; ++i) {
      const double d = static_cast<double>(out[i]) - output_[static_cast<size_t>(i)];
      difference += d * d;
    }
    const double spread = spread_sum() / norm;
    ++sums.measured;
    sums.kernel_error += std::sqrt(difference) / norm;
    sums.spread += spread;
    sums.predicted_error += split ? std::numeric_limits<double>::quiet_NaN()
                                  : predicted_attention_error(precision, largest_, spread);
  }

 private:
  // A row that the guard escalated was computed with fp32 scores.
  AttentionPrecision effective_precision() const {
    AttentionPrecision precision = problem_.precision;
    const bool escalates = problem_.guard != nullptr && problem_.guard->options.mode == GuardMode::escalate;
    if (escalates && row_at_risk(precision, largest_)) precision.scores = precision.scaled = DType::f32;
    return precision;
  }

  const float* value(size_t j) const {
    return values_.data() + (range_.first + static_cast<int64_t>(j)) * dim_;
  }

  void score(int64_t row, int64_t head) {
    const auto* q = static_cast<const float*>(problem_.q.at(row, head));
    scores_.resize(static_cast<size_t>(range_.end - range_.first));
    largest_ = 0;
    for (size_t j = 0; j < scores_.size(); ++j) {
      const float* key = keys_.data() + (range_.first + static_cast<int64_t>(j)) * dim_;
      scores_[j] = dot(q, key, dim_) * static_cast<double>(problem_.scale);
      largest_ = std::max(largest_, std::abs(scores_[j]));
    }
  }

  // Scores become probabilities, output_ their mean of the values.
  void attend() {
    const double top = *std::max_element(scores_.begin(), scores_.end());
    double sum = 0;
    for (double& s : scores_) sum += s = std::exp(s - top);
    output_.assign(static_cast<size_t>(dim_), 0);
    for (size_t j = 0; j < scores_.size(); ++j) {
      scores_[j] /= sum;
      for (int64_t i = 0; i < dim_; ++i) {
        output_[static_cast<size_t>(i)] += scores_[j] * static_cast<double>(value(j)[i]);
      }
    }
  }

  double norm_of_output() const {
    double sum = 0;
    for (const double o : output_) sum += o * o;
    return std::sqrt(sum);
  }

  // sqrt(sum p^2 |v - o|^2)
  double spread_sum() const {
    double sum = 0;
    for (size_t j = 0; j < scores_.size(); ++j) {
      if (scores_[j] < 1e-12) continue;  // adds less than 1e-24 of |v|^2
      double distance = 0;
      for (int64_t i = 0; i < dim_; ++i) {
        const double d = static_cast<double>(value(j)[i]) - output_[static_cast<size_t>(i)];
        distance += d * d;
      }
      sum += scores_[j] * scores_[j] * distance;
    }
    return std::sqrt(sum);
  }

  const AttentionProblem& problem_;
  const std::vector<float>&keys_, &values_;
  int64_t dim_;
  KeyRange range_{};
  std::vector<double> scores_, output_;
  double largest_ = 0;
};

}  // namespace

void examine_rows(const AttentionProblem& problem, std::span<const int64_t> rows, bool measure,
                  std::vector<HeadSums>& heads) {
  heads.resize(static_cast<size_t>(problem.q.heads));
  const int64_t group = problem.q.heads / problem.k.heads;
  parallel_for(problem.k.heads, [&](int64_t kv_head) {
    std::vector<float> keys = widened(problem.k, kv_head);
    add_bias(problem.key_bias, kv_head, problem.k.head_dim, keys);
    const std::vector<float> values = measure ? widened(problem.v, kv_head) : std::vector<float>();
    RowExamination examination(problem, keys, values);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (const int64_t row : rows) examination.add(row, head, measure, heads[static_cast<size_t>(head)]);
    }
  });
}

}  // namespace fovea
