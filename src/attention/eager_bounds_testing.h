// Between which two numbers each output of eager attention in 16 bits must lie, whatever the order of its f32
// sums: interval arithmetic in f64 over
//   S = r(q.k), S = r(S * scale), S = r(S + M), P = r(softmax_f32(S)), O = r(P.v).
// Rounding is monotone, so an interval is rounded by rounding its ends; where both ends meet, no rounding
// boundary is near and the bits are known.
//
// f32 sums. The products of two 16-bit numbers are exact in f32, so only additions round: the i-th by at most
// u |s_i|, u = 2^-24, s_i the partial sum (an addition to zero is exact). For independent errors of mean zero
// Hoeffding's inequality bounds their total by tau = lambda u sqrt(sum s_i^2) except with probability
// 2 exp(-lambda^2 / 2) (Higham and Mary 2019, in terms of partial sums). lambda = 6: 3e-8 for each of 1e5
// sums. The partial sums are those of the natural order; lanes and blocks make smaller ones.
// exp: relative 2^-21 (kernels.h), and u |argument| from the rounded argument. Quotient: 4 u, for a division
// or a product with a rounded reciprocal.
#pragma once

#include <cmath>
#include <vector>

#include "attention/attention_testing.h"
#include "attention/rows.h"

namespace fovea::attention_testing {

struct Interval {
  double low, high;
  bool holds(double x) const { return low <= x && x <= high; }
  bool decided() const { return low == high; }
};

inline constexpr double kUnit = 0x1p-24, kLambda = 6;

// A sum in natural order and the square root of the sum of its squared partial sums, the first one excepted.
class SumBound {
 public:
  void add(double term) {
    if (term == 0) return;
    total_ += term;
    if (begun_) squares_ += total_ * total_;
    begun_ = true;
  }
  double total() const { return total_; }
  double error() const { return kLambda * kUnit * std::sqrt(squares_); }

 private:
  double total_ = 0, squares_ = 0;
  bool begun_ = false;
};

class EagerBounds {
 public:
  EagerBounds(const AttentionProblem& problem, DType type) : problem_(problem), type_(type) {}

  // Of every output, in the order of problem.out.
  std::vector<Interval> outputs() const {
    std::vector<Interval> out;
    const int64_t group = problem_.q.heads / problem_.k.heads;
    for (int64_t query = 0; query < problem_.q.tokens; ++query) {
      for (int64_t head = 0; head < problem_.q.heads; ++head) {
        const std::vector<Interval> weights = probabilities(scores(query, head, head / group));
        for (int64_t column = 0; column < problem_.v.head_dim; ++column) {
          out.push_back(output(weights, head / group, column));
        }
      }
    }
    return out;
  }

 private:
  double r(double x) const { return rounded(static_cast<float>(x), type_); }

  std::vector<Interval> scores(int64_t query, int64_t head, int64_t kv_head) const {
    const int64_t keys = problem_.k.tokens;
    const int64_t visible = problem_.causal ? query + 1 + keys - problem_.q.tokens : keys;
    const double lowest = type_ == DType::bf16 ? f32_from_bf16(0xff7f) : -65504.f;
    std::vector<Interval> out;
    for (int64_t key = 0; key < keys; ++key) {
      SumBound sum;
      for (int64_t c = 0; c < problem_.q.head_dim; ++c) {
        sum.add(value_at(problem_.q, query, head, c) * value_at(problem_.k, key, kv_head, c));
      }
      const auto stored = [&](double raw) {
        const double scaled = r(static_cast<float>(r(raw)) * problem_.scale);
        return key < visible ? scaled : r(scaled + lowest);
      };
      out.push_back({stored(sum.total() - sum.error()), stored(sum.total() + sum.error())});
    }
    return out;
  }

  std::vector<Interval> probabilities(const std::vector<Interval>& scores) const {
    double highest = -INFINITY;
    for (const Interval& s : scores) highest = std::max(highest, s.high);
    std::vector<Interval> weights;
    SumBound low, high;
    for (const Interval& s : scores) {
      const auto error = [&](double x) { return 0x1p-21 + 2 * kUnit * std::min(100.0, highest - x); };
      // Below -87 f32 exponentials become subnormal or 0.
      weights.push_back({s.low - highest < -87 ? 0 : std::exp(s.low - highest) * (1 - error(s.low)),
                         s.high - highest < -104 ? 0 : std::exp(s.high - highest) * (1 + error(s.high))});
      low.add(weights.back().low);
      high.add(weights.back().high);
    }
    const double error = high.error() / low.total() + 4 * kUnit;
    for (Interval& w : weights) {
      const double others_high = std::max(0.0, high.total() - w.high);
      const double others_low = std::max(0.0, low.total() - w.low);
      const double least = w.low / (w.low + others_high), most = w.high / (w.high + others_low);
      w = {r(least * (1 - error)), r(most * (1 + error))};
    }
    return weights;
  }

  Interval output(const std::vector<Interval>& weights, int64_t kv_head, int64_t column) const {
    SumBound low, high;
    for (int64_t key = 0; key < problem_.v.tokens; ++key) {
      const double v = value_at(problem_.v, key, kv_head, column);
      const Interval& w = weights[static_cast<size_t>(key)];
      low.add(v * (v < 0 ? w.high : w.low));
      high.add(v * (v < 0 ? w.low : w.high));
    }
    return {r(low.total() - low.error()), r(high.total() + high.error())};
  }

  const AttentionProblem& problem_;
  DType type_;
};

}  // namespace fovea::attention_testing
