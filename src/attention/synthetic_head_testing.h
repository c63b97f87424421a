// A synthetic head with the large K bias of Qwen2.5, for the tests of numerics and of the guard.
#pragma once

#include <array>
#include <vector>

#include "attention/attention_testing.h"

namespace fovea::attention_testing {

inline constexpr int64_t kHeadDim = 128, kHalf = 64, kGroup = 7, kBiasPairs = 4;

struct HeadOptions {
  int64_t tokens = 256;
  double bias = 0, query_offset = 13.4;
  DType dtype = DType::bf16;
  uint64_t seed = 1;
  int64_t group = kGroup;
  bool split = false;       // K is kept without its bias
  int64_t first_pair = 60;  // four rotation pairs of 64 carry the bias, in both halves; 60: the slowest
};

using Row = std::array<double, kHeadDim>;

inline double rotation_angle(int64_t position, int64_t pair) {
  static const std::array<double, kHalf> frequencies = [] {
    std::array<double, kHalf> f{};
    for (size_t p = 0; p < kHalf; ++p) f[p] = std::pow(1e6, -static_cast<double>(p) / kHalf);
    return f;
  }();
  return static_cast<double>(position) * frequencies[static_cast<size_t>(pair)];
}

// RoPE as the text tower computes it: tables, both products and their sum rounded to the dtype (f64: exact).
// theta 1e6.
inline Row rotate(const Row& x, int64_t position, DType dtype) {
  const auto r = [dtype](double value) {
    return dtype == DType::f64 ? value : double{rounded(static_cast<float>(value), dtype)};
  };
  Row out;
  for (size_t i = 0; i < kHalf; ++i) {
    const double angle = rotation_angle(position, static_cast<int64_t>(i));
    const double c = r(std::cos(angle)), s = r(std::sin(angle));
    out[i] = r(r(x[i] * c) + r(-x[i + kHalf] * s));
    out[i + kHalf] = r(r(x[i + kHalf] * c) + r(x[i] * s));
  }
  return out;
}

// One KV head whose last position asks: content N(0, 1), K's bias columns +-bias + N(0, 0.25), and queries
// that look along the bias (+ or -, alternating by row).
class SyntheticHead {
 public:
  explicit SyntheticHead(const HeadOptions& options)
      : options_(options),
        bias_(kHeadDim),
        q(DType::f32, 1, options.group, kHeadDim),
        k(options.dtype, options.tokens, 1, kHeadDim),
        v(options.dtype, options.tokens, 1, kHeadDim) {
    q.holds(options.dtype);
    Random random(options.seed);
    Row sign;
    for (double& s : sign) s = random.bits() >> 63 ? 1 : -1;
    for (int64_t h = 0; h < options.group; ++h) {
      Row row;
      for (int64_t c = 0; c < kHeadDim; ++c) {
        const double offset =
            is_bias_column(c) ? (h % 2 == 0 ? 1 : -1) * sign[size_t(c)] * options.query_offset : 0;
        row[size_t(c)] = random.normal() + offset;
      }
      exact_q.push_back(rotate(row, options.tokens - 1, DType::f64));
      store(q, options.tokens - 1, h, 0, row);
    }
    for (size_t c = 0; c < kHeadDim; ++c) {
      if (is_bias_column(static_cast<int64_t>(c))) bias_[c] = static_cast<float>(sign[c] * options.bias);
    }
    for (int64_t t = 0; t < options.tokens; ++t) make_token(random, t);
  }

  bool is_bias_column(int64_t column) const {
    const int64_t pair = column % kHalf;
    return pair >= options_.first_pair && pair < options_.first_pair + kBiasPairs;
  }

  AttentionProblem problem() const {
    AttentionProblem p;
    p.q = q.view();
    p.k = k.view();
    p.v = v.view();
    p.scale = static_cast<float>(1 / std::sqrt(128.0));
    p.causal = true;
    p.precision = all_in(options_.dtype);
    if (options_.split) {
      p.key_bias.bias = bias_.data();
      p.key_bias.cos = cos_.data();
      p.key_bias.sin = sin_.data();
    }
    return p;
  }

  // The result on inputs that were never rounded, [group, kHeadDim].
  std::vector<double> exact_result() const {
    std::vector<double> out;
    for (const Row& query : exact_q) {
      std::vector<double> weights;
      double highest = -1e300, sum = 0;
      for (const Row& key : exact_k) {
        double score = 0;
        for (size_t c = 0; c < kHeadDim; ++c) score += query[c] * key[c];
        weights.push_back(score / std::sqrt(128.0));
        highest = std::max(highest, weights.back());
      }
      for (double& weight : weights) sum += weight = std::exp(weight - highest);
      Row row{};
      for (size_t t = 0; t < weights.size(); ++t) {
        for (size_t c = 0; c < kHeadDim; ++c) row[c] += weights[t] / sum * exact_v[t][c];
      }
      out.insert(out.end(), row.begin(), row.end());
    }
    return out;
  }

 private:
  void make_token(Random& random, int64_t t) {
    Row content, whole, value;
    for (size_t c = 0; c < kHeadDim; ++c) {
      content[c] = random.normal();
      if (is_bias_column(static_cast<int64_t>(c))) content[c] *= 0.25;
      whole[c] = content[c] + double{bias_[c]};
      value[c] = random.normal();
      v.set(t, 0, static_cast<int64_t>(c), value[c]);
    }
    exact_k.push_back(rotate(whole, t, DType::f64));
    exact_v.push_back(value);
    store(k, t, 0, t, options_.split ? content : whole);
    for (int64_t p = 0; options_.split && p < kHalf; ++p) {
      cos_.push_back(static_cast<float>(std::cos(rotation_angle(t, p))));
      sin_.push_back(static_cast<float>(std::sin(rotation_angle(t, p))));
    }
  }

  // As the model would: rounded by the projection, then rotated.
  void store(Tensor& to, int64_t position, int64_t head, int64_t token, Row row) {
    for (double& x : row) x = double{rounded(static_cast<float>(x), options_.dtype)};
    row = rotate(row, position, options_.dtype);
    for (int64_t c = 0; c < kHeadDim; ++c) to.set(token, head, c, row[static_cast<size_t>(c)]);
  }

  HeadOptions options_;
  std::vector<float> bias_, cos_, sin_;
  std::vector<Row> exact_q, exact_k, exact_v;

 public:
  Tensor q, k, v;
};

}  // namespace fovea::attention_testing
