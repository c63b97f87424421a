// Inputs for the attention tests: a portable random generator and problems that own their tensors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "attention/problem.h"
#include "base/splitmix64.h"

namespace fovea::attention_testing {

// The same numbers as in the Python that makes the goldens.
class Random : public SplitMix64 {
 public:
  using SplitMix64::SplitMix64;
  double uniform() { return (static_cast<double>(bits() >> 11) + 0.5) * 0x1p-53; }
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2 * std::log(uniform())), angle = 2 * std::numbers::pi * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

 private:
  double spare_ = 0;
  bool has_spare_ = false;
};

// [tokens, heads, head_dim] stored as `dtype`, with `padding` unused elements after each token.
class Tensor {
 public:
  Tensor(DType dtype, int64_t tokens, int64_t heads, int64_t head_dim, int64_t padding = 0)
      : dtype_(dtype),
        tokens_(tokens),
        heads_(heads),
        head_dim_(head_dim),
        stride_(heads * head_dim + padding) {
    wide_.resize(static_cast<size_t>(dtype == DType::f32 ? tokens * stride_ : 0), std::nanf(""));
    narrow_.resize(static_cast<size_t>(dtype == DType::f32 ? 0 : tokens * stride_), 0x7fff);
  }

  void set(int64_t token, int64_t head, int64_t column, double value) {
    const auto at = static_cast<size_t>(token * stride_ + head * head_dim_ + column);
    const auto single = static_cast<float>(value);
    if (dtype_ == DType::f32) wide_[at] = single;
    if (dtype_ == DType::bf16) narrow_[at] = bf16_from_f32(single);
    if (dtype_ == DType::f16) narrow_[at] = f16_from_f32(single);
  }
  // Says that every value is of this type: see HeadsView::values.
  void holds(DType values) { values_ = values; }

  // Normal values of the given deviation, rounded to `values`.
  void fill_normal(Random& random, double deviation, DType values) {
    for (int64_t t = 0; t < tokens_; ++t) {
      for (int64_t h = 0; h < heads_; ++h) {
        for (int64_t c = 0; c < head_dim_; ++c) {
          set(t, h, c, rounded(static_cast<float>(deviation * random.normal()), values));
        }
      }
    }
    holds(values);
  }

  // Tokens [first, first + count).
  HeadsView view(int64_t first, int64_t count) const {
    const HeadsView all{dtype_ == DType::f32 ? static_cast<const void*>(wide_.data()) : narrow_.data(),
                        dtype_,
                        tokens_,
                        heads_,
                        head_dim_,
                        stride_,
                        values_};
    return {all.at(first, 0), dtype_, count, heads_, head_dim_, stride_, values_};
  }
  HeadsView view() const { return view(0, tokens_); }

 private:
  DType dtype_, values_ = DType::f32;
  int64_t tokens_, heads_, head_dim_, stride_;
  std::vector<float> wide_;
  std::vector<uint16_t> narrow_;
};

struct Shape {
  int64_t tokens_q, tokens_kv, heads_q, heads_kv, head_dim;
  DType kv = DType::f32;  // storage of K and V
  bool causal = false;
  std::vector<int64_t> cu_seqlens = {};
};

// Random Q, K, V of a shape. Q's values are rounded to K's dtype, as a model's would be.
struct Inputs {
  Inputs(const Shape& the_shape, uint64_t seed)
      : shape(the_shape),
        q(DType::f32, shape.tokens_q, shape.heads_q, shape.head_dim, 3),
        k(shape.kv, shape.tokens_kv, shape.heads_kv, shape.head_dim, 5),
        v(shape.kv, shape.tokens_kv, shape.heads_kv, shape.head_dim) {
    Random random(seed);
    q.fill_normal(random, 1.0, shape.kv);
    k.fill_normal(random, 1.0, shape.kv);
    v.fill_normal(random, 1.0, shape.kv);
  }

  AttentionProblem problem(AttentionPrecision precision) const {
    AttentionProblem p;
    p.q = q.view();
    p.k = k.view();
    p.v = v.view();
    p.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
    p.causal = shape.causal;
    p.cu_seqlens = shape.cu_seqlens;
    p.precision = precision;
    return p;
  }

  // Queries [first, first + count) with the keys a prefill in chunks would have cached by then.
  AttentionProblem chunk(int64_t first, int64_t count, AttentionPrecision precision) const {
    AttentionProblem p = problem(precision);
    const int64_t keys = shape.tokens_kv - shape.tokens_q + first + count;
    p.q = q.view(first, count);
    p.k = k.view(0, keys);
    p.v = v.view(0, keys);
    return p;
  }

  Shape shape;
  Tensor q, k, v;
};

inline constexpr AttentionKind kKinds[] = {AttentionKind::eager, AttentionKind::sdpa,
                                           AttentionKind::flash_attention_2};
// Every node that any implementation stores, in one type; each reads those it has.
inline AttentionPrecision all_in(DType type) { return AttentionPrecision::of(AttentionKind::eager, type); }

inline std::vector<float> run(AttentionKind kind, AttentionProblem problem) {
  std::vector<float> out(static_cast<size_t>(problem.q.tokens * problem.q.heads * problem.q.head_dim),
                         std::nanf(""));
  problem.out = out.data();
  attend(kind, problem);
  return out;
}

inline std::vector<double> run_reference(const AttentionProblem& problem) {
  std::vector<double> out(static_cast<size_t>(problem.q.tokens * problem.q.heads * problem.q.head_dim),
                          std::nan(""));
  reference_attention(problem, out.data());
  return out;
}

}  // namespace fovea::attention_testing
