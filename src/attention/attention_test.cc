// Goal: the three implementations compute softmax attention for every shape, mask and storage type.
// Method: distance from the f64 reference within a bound derived from f32 rounding, and bit equality wherever
// the contract promises it (threads, chunks, GQA, segments).
#include <gtest/gtest.h>

#include <cstring>

#include "attention/attention_testing.h"
#include "attention/query_tiles.h"
#include "base/error.h"
#include "base/parallel.h"

namespace fovea {
namespace {

using namespace attention_testing;

class ThreadCount {
 public:
  explicit ThreadCount(int count) : before_(threads()) { set_threads(count); }
  ~ThreadCount() { set_threads(before_); }

 private:
  int before_;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// A bound for |o - o64| with f32 nodes. With u = 2^-24, a score is off by at most (d + 3) u a, where
// a = scale * sum_c |q_c k_c| (d products and additions, scaling, subtraction of the maximum), which changes
// a weight by that factor twice (itself and the sum) on top of exp's own 2^-21 (twice). Summing n weights, n
// products and dividing adds (2n + 4) u, and rescaling online adds at most one exp and one product per key
// tile and split. All of it multiplies sum_j p_j |v_j| <= max |v|.
double f32_bound(const Inputs& inputs) {
  const Shape& s = inputs.shape;
  const auto largest = [](const HeadsView& view) {
    double most = 0;
    for (int64_t i = 0; i < view.tokens * view.heads * view.head_dim; ++i) {
      const int64_t token = i / (view.heads * view.head_dim), column = i % (view.heads * view.head_dim);
      const void* row = view.at(token, 0);
      const double value = view.dtype == DType::f32 ? static_cast<const float*>(row)[column]
                           : view.dtype == DType::bf16
                               ? f32_from_bf16(static_cast<const uint16_t*>(row)[column])
                               : f32_from_f16(static_cast<const uint16_t*>(row)[column]);
      most = std::max(most, std::abs(value));
    }
    return most;
  };
  // Cauchy-Schwarz on rows: |q| |k| with normal entries is close to d; 2 d covers the largest of them.
  const double u = 0x1p-24, d = static_cast<double>(s.head_dim), n = static_cast<double>(s.tokens_kv);
  const double a = std::min(2 * d, d * largest(inputs.q.view()) * largest(inputs.k.view())) / std::sqrt(d);
  const double tiles = n / kKeyTile + 2;
  return largest(inputs.v.view()) *
         (2 * (d + 3) * u * a + 2 * 0x1p-21 + (2 * n + 4) * u + tiles * (0x1p-21 + u));
}

const Shape kShapes[] = {
    {5, 5, 1, 1, 8},
    {64, 64, 2, 2, 64},
    {130, 130, 2, 2, 80},
    {70, 70, 2, 1, 128},
    {33, 33, 3, 3, 5},
    {17, 17, 1, 1, 1},
    {40, 40, 1, 1, 264},
    {1, 1, 4, 2, 16},
    {1, 300, 14, 2, 64, DType::bf16, true},
    {7, 307, 8, 1, 128, DType::bf16, true},
    {129, 129, 7, 1, 40, DType::f16, true},
    {100, 1200, 4, 4, 24, DType::f32, true},
    {3, 2100, 2, 1, 32, DType::f16, true},
    {2, 1300, 6, 3, 16, DType::bf16, true},
    {90, 90, 4, 2, 12, DType::bf16, true},
    {200, 200, 2, 2, 80, DType::f32, false, {0, 64, 128, 129, 129, 200}},
    {150, 150, 7, 7, 80, DType::f32, false, {0, 64, 128, 129, 129, 150}},
    {90, 90, 14, 2, 16, DType::bf16, false, {0, 40, 40, 80, 81, 90}},
    {1100, 1100, 1, 1, 16, DType::bf16, false, {0, 1, 1090, 1100}},
};

TEST(Attention, MatchesF64WithinF32Rounding) {
  for (const Shape& shape : kShapes) {
    const Inputs inputs(shape, 11);
    const AttentionProblem problem = inputs.problem(all_in(DType::f32));
    const std::vector<double> truth = run_reference(problem);
    const double bound = f32_bound(inputs);
    ASSERT_LT(bound, 5e-3);
    for (const AttentionKind kind : kKinds) {
      const std::vector<float> out = run(kind, problem);
      double worst = 0;
      for (size_t i = 0; i < out.size(); ++i) {
        ASSERT_TRUE(std::isfinite(out[i])) << name_of(kind) << " d=" << shape.head_dim << " at " << i;
        worst = std::max(worst, std::abs(double{out[i]} - truth[i]));
      }
      EXPECT_LE(worst, bound) << name_of(kind) << " q=" << shape.tokens_q << " kv=" << shape.tokens_kv
                              << " heads=" << shape.heads_q << "/" << shape.heads_kv
                              << " d=" << shape.head_dim;
    }
  }
}

TEST(Attention, BitsDoNotDependOnThreads) {
  for (const Shape& shape : kShapes) {
    const Inputs inputs(shape, 12);
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const AttentionProblem problem = inputs.problem(all_in(dtype));
      for (const AttentionKind kind : kKinds) {
        std::vector<std::vector<float>> results;
        for (const int count : {1, 2, 5}) {
          const ThreadCount scope(count);
          results.push_back(run(kind, problem));
        }
        EXPECT_TRUE(same_bits(results[0], results[1])) << name_of(kind) << " kv=" << shape.tokens_kv;
        EXPECT_TRUE(same_bits(results[0], results[2])) << name_of(kind) << " kv=" << shape.tokens_kv;
      }
    }
  }
}

// Runs queries [first, first + count) alone and compares them with the rows of the whole prefill.
void expect_chunk_equal(const Inputs& inputs, AttentionKind kind, const std::vector<float>& whole,
                        int64_t first, int64_t count, AttentionPrecision precision) {
  const std::vector<float> part = run(kind, inputs.chunk(first, count, precision));
  const int64_t width = inputs.shape.heads_q * inputs.shape.head_dim;
  const std::vector<float> rows(whole.begin() + first * width, whole.begin() + (first + count) * width);
  EXPECT_TRUE(same_bits(part, rows)) << name_of(kind) << " chunk [" << first << ", " << first + count
                                     << ") d=" << inputs.shape.head_dim;
}

TEST(Attention, ChunkedPrefillAndDecodeEqualTheWholeBitForBit) {
  const Shape shapes[] = {{1100, 1100, 4, 2, 64, DType::bf16, true},
                          {300, 2400, 7, 1, 24, DType::f16, true},
                          {150, 1120, 2, 2, 19, DType::f32, true},
                          {200, 200, 8, 1, 128, DType::bf16, true}};
  for (const Shape& shape : shapes) {
    const Inputs inputs(shape, 13);
    const AttentionPrecision precision = all_in(shape.kv);
    for (const AttentionKind kind : kKinds) {
      const std::vector<float> whole = run(kind, inputs.problem(precision));
      const int64_t n = shape.tokens_q;
      for (const int64_t first : {int64_t{0}, int64_t{1}, int64_t{63}, int64_t{64}, n / 2, n - 8, n - 1}) {
        expect_chunk_equal(inputs, kind, whole, first, 1, precision);
      }
      for (int64_t first = 0; first < n; first += 7 * 5) {
        expect_chunk_equal(inputs, kind, whole, first, std::min<int64_t>(7, n - first), precision);
      }
      for (int64_t first = 0; first < n; first += 64) {
        expect_chunk_equal(inputs, kind, whole, first, std::min<int64_t>(64, n - first), precision);
      }
    }
  }
}

TEST(Attention, GroupedHeadsEqualRepeatedKeysBitForBit) {
  for (const int64_t group : {2, 7, 8}) {
    const Inputs grouped({50, 90, 2 * group, 2, 48, DType::bf16, true}, 14);
    Inputs repeated({50, 90, 2 * group, 2 * group, 48, DType::bf16, true}, 14);
    repeated.q = grouped.q;
    for (int64_t t = 0; t < 90; ++t) {
      for (int64_t h = 0; h < 2 * group; ++h) {
        for (int64_t c = 0; c < 48; ++c) {
          const auto copy = [&](const Tensor& from, Tensor& to) {
            to.set(t, h, c, f32_from_bf16(static_cast<const uint16_t*>(from.view().at(t, h / group))[c]));
          };
          copy(grouped.k, repeated.k);
          copy(grouped.v, repeated.v);
        }
      }
    }
    for (const AttentionKind kind : kKinds) {
      EXPECT_TRUE(same_bits(run(kind, grouped.problem(all_in(DType::bf16))),
                            run(kind, repeated.problem(all_in(DType::bf16)))))
          << name_of(kind) << " group " << group;
    }
  }
}

// Rows of integers with a scale each, and the same values in f32.
struct EightBitRows {
  EightBitRows(int64_t tokens, int64_t heads, int64_t head_dim, Random& random)
      : wide(DType::f32, tokens, heads, head_dim) {
    for (int64_t i = 0; i < tokens * heads; ++i) {
      scales.push_back(static_cast<float>(0.02 * random.uniform()));
      for (int64_t c = 0; c < head_dim; ++c) {
        integers.push_back(static_cast<int8_t>(std::floor(255 * random.uniform()) - 127));
        wide.set(i / heads, i % heads, c, double{scales.back() * static_cast<float>(integers.back())});
      }
    }
  }
  HeadsView view() const {
    HeadsView view = wide.view();
    view.data = integers.data();
    view.dtype = DType::i8;
    view.scales = scales.data();
    view.scale_stride = view.heads;
    return view;
  }
  std::vector<int8_t> integers;
  std::vector<float> scales;
  Tensor wide;
};

TEST(Attention, EightBitKeysAndValuesAreTheirIntegersTimesTheirScalesBitForBit) {
  for (const int64_t queries : {1, 3, 150}) {
    const Inputs inputs({queries, 700, 4, 2, 40, DType::f32, true}, 31);
    Random random(32);
    const EightBitRows k(700, 2, 40, random), v(700, 2, 40, random);
    for (const AttentionKind kind : kKinds) {
      AttentionProblem wide = inputs.problem(all_in(DType::f32)), narrow = wide;
      wide.k = k.wide.view();
      wide.v = v.wide.view();
      narrow.k = k.view();
      narrow.v = v.view();
      EXPECT_TRUE(same_bits(run(kind, wide), run(kind, narrow))) << name_of(kind) << " " << queries;
      EXPECT_EQ(run_reference(wide), run_reference(narrow));
    }
  }
}

TEST(Attention, SegmentsEqualSeparateProblemsBitForBit) {
  const Inputs inputs({260, 260, 3, 3, 80, DType::f32, false, {0, 1, 65, 129, 150, 150, 260}}, 15);
  const AttentionPrecision precision = all_in(DType::bf16);
  for (const AttentionKind kind : kKinds) {
    const std::vector<float> together = run(kind, inputs.problem(precision));
    for (size_t s = 1; s < inputs.shape.cu_seqlens.size(); ++s) {
      const int64_t begin = inputs.shape.cu_seqlens[s - 1], count = inputs.shape.cu_seqlens[s] - begin;
      if (count == 0) continue;
      AttentionProblem alone = inputs.problem(precision);
      alone.cu_seqlens = {};
      alone.q = inputs.q.view(begin, count);
      alone.k = inputs.k.view(begin, count);
      alone.v = inputs.v.view(begin, count);
      const std::vector<float> rows(together.begin() + begin * 240, together.begin() + (begin + count) * 240);
      EXPECT_TRUE(same_bits(run(kind, alone), rows)) << name_of(kind) << " segment " << s;
    }
  }
}

// Future values are finite but huge: any weight but an exact zero would show.
TEST(Attention, FutureKeysHaveExactlyZeroWeight) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Inputs calm({96, 96, 2, 1, 64, dtype, true}, 16);
    Inputs loud = calm;
    for (int64_t t = 40; t < 96; ++t) {
      for (int64_t c = 0; c < 64; ++c) loud.v.set(t, 0, c, 60000);
    }
    for (const AttentionKind kind : kKinds) {
      std::vector<float> a = run(kind, calm.problem(all_in(dtype))),
                         b = run(kind, loud.problem(all_in(dtype)));
      a.resize(40 * 2 * 64);
      b.resize(40 * 2 * 64);
      EXPECT_TRUE(same_bits(a, b)) << name_of(kind) << " " << name_of(dtype);
    }
  }
}

TEST(Attention, RowsThatSeeNoKeyAreZero) {
  const Inputs inputs({10, 6, 2, 2, 16, DType::f32, true}, 17);
  for (const AttentionKind kind : {AttentionKind::sdpa, AttentionKind::flash_attention_2}) {
    const std::vector<float> out = run(kind, inputs.problem(all_in(DType::f32)));
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_TRUE(std::isfinite(out[i]));
      if (i >= 4 * 2 * 16) continue;
      ASSERT_EQ(out[i], 0.f);
    }
    EXPECT_NE(out.back(), 0.f);
  }
}

TEST(Attention, NanInAKeyReachesTheOutput) {
  Inputs inputs({70, 70, 1, 1, 16, DType::f32, true}, 18);
  inputs.k.set(30, 0, 3, std::nan(""));
  for (const AttentionKind kind : kKinds) {
    const std::vector<float> out = run(kind, inputs.problem(all_in(DType::f32)));
    // eager adds the mask to the NaN and keeps it, as transformers does.
    EXPECT_EQ(std::isnan(out[29 * 16]), kind == AttentionKind::eager) << name_of(kind);
    EXPECT_TRUE(std::isnan(out[30 * 16])) << name_of(kind);
    EXPECT_TRUE(std::isnan(out[69 * 16])) << name_of(kind);
  }
}

TEST(Attention, EmptyProblemsAreFine) {
  for (const AttentionKind kind : kKinds) {
    EXPECT_TRUE(run(kind, Inputs({0, 0, 2, 2, 8}, 1).problem(all_in(DType::f32))).empty());
    EXPECT_EQ(run(kind, Inputs({2, 0, 1, 1, 8}, 1).problem(all_in(DType::f32))), std::vector<float>(16, 0.f));
  }
}

TEST(Attention, ScratchGrowsAsPromised) {
  const auto scratch = [](AttentionKind kind, int64_t tokens_q, int64_t tokens_kv) {
    const Shape shape{tokens_q, tokens_kv, 16, 2, 128, DType::bf16, true};
    AttentionProblem problem = Inputs({1, 1, 16, 2, 128}, 1).problem(all_in(DType::bf16));
    problem.q.tokens = shape.tokens_q;
    problem.k.tokens = problem.v.tokens = shape.tokens_kv;
    problem.causal = true;
    return static_cast<double>(attention_scratch_bytes(kind, problem));
  };
  EXPECT_EQ(scratch(AttentionKind::flash_attention_2, 1 << 11, 1 << 11),
            scratch(AttentionKind::flash_attention_2, 1 << 17, 1 << 17));
  EXPECT_LE(scratch(AttentionKind::flash_attention_2, 1, 1 << 17),
            1.01 * scratch(AttentionKind::flash_attention_2, 1, 1 << 14));
  EXPECT_LE(scratch(AttentionKind::sdpa, 1 << 17, 1 << 17),
            9 * scratch(AttentionKind::sdpa, 1 << 14, 1 << 14));
  EXPECT_GE(scratch(AttentionKind::eager, 1 << 13, 1 << 13), 8. * (1 << 26) * 4);
}

TEST(Attention, NamesRoundTrip) {
  for (const AttentionKind kind : kKinds) EXPECT_EQ(parse_attention(name_of(kind)), kind);
  EXPECT_THROW(parse_attention("flash"), Error);
  EXPECT_THROW(parse_attention(""), Error);
}

}  // namespace
}  // namespace fovea
