// Goal: the attention of every preset is what that preset says, node by node. Method: a scalar emulation with
// explicit roundings on problems of at most 64 keys. Scores hang on a large common term, as with Qwen2.5's
// key bias, so that the roundings of a preset decide what comes out, and every other preset is a positive
// control.
//
// V is the identity, so that P is seen. Elements of q and k are small multiples of 1/4: raw products are
// exact in f32 in any order. Where an operand was rescaled they are not: rows in which the error of the f32
// sum, d u sum |q k|, could move a rounded score are left out (few, checked). Then P may differ by the error
// of exp (2^-21), of its argument (2^-23 |s - max|) and of the f32 sum (n 2^-24), plus one neighbour for each
// rounding of P and of the output.
#include <gtest/gtest.h>

#include "attention/attention_testing.h"
#include "policy/presets.h"

namespace fovea {
namespace {

using namespace attention_testing;

constexpr int64_t kKeys = 48,
                  kHeadDim = 48;  // equal for V = identity; not a power of 4, so that scales differ

const double kScale = 1 / std::sqrt(double{kHeadDim});

float lowest(DType type) {
  return type == DType::f16 ? -65504.f : type == DType::bf16 ? f32_from_bf16(0xff7f) : -3.40282347e38f;
}

struct Head {
  explicit Head(DType dtype)
      : q(DType::f32, kKeys, 2, kHeadDim), k(dtype, kKeys, 1, kHeadDim), v(dtype, kKeys, 1, kHeadDim) {
    Random random(7);
    const auto quarter = [&] { return static_cast<double>(random.bits() >> 61) / 4 - 1; };
    for (int64_t t = 0; t < kKeys; ++t) {
      for (int64_t c = 0; c < kHeadDim; ++c) {
        for (int64_t h = 0; h < 2; ++h) q.set(t, h, c, c < 8 ? (h == 0 ? 16 : -14) : quarter());
        k.set(t, 0, c, c < 8 ? 12 : 4 * quarter());
        v.set(t, 0, c, t == c ? 1 : 0);
      }
    }
  }

  AttentionProblem problem(const AttentionPrecision& precision) const {
    AttentionProblem p;
    p.q = q.view();
    p.k = k.view();
    p.v = v.view();
    p.scale = static_cast<float>(1 / std::sqrt(double{kHeadDim}));
    p.causal = true;
    p.precision = precision;
    return p;
  }

  Tensor q, k, v;
};

double element(const HeadsView& view, int64_t token, int64_t head, int64_t column) {
  const void* row = view.at(token, head);
  if (view.dtype == DType::f32) return double{static_cast<const float*>(row)[column]};
  const uint16_t bits = static_cast<const uint16_t*>(row)[column];
  return double{view.dtype == DType::bf16 ? f32_from_bf16(bits) : f32_from_f16(bits)};
}

double round_in(double x, DType type) {
  return type == DType::f64 ? x : double{rounded(static_cast<float>(x), type)};
}

struct EmulatedRow {
  std::vector<double> out, tolerance;
  bool decided = true;
};

// The formulas of base/precision.h, one row.
class Emulation {
 public:
  Emulation(const Head& head, const AttentionPrecision& nodes) : head_(head), nodes_(nodes) {}

  EmulatedRow row(int64_t query, int64_t q_head) {
    EmulatedRow result;
    std::vector<double> scores, products, errors;
    for (int64_t key = 0; key < kKeys; ++key) {
      double error;
      products.push_back(product(query, q_head, key, error));
      errors.push_back(error);
    }
    const double shift = shift_of(products, query);
    for (int64_t key = 0; key < kKeys; ++key) {
      if (key > query && nodes_.mask == MaskAdd::skip) continue;
      const auto at = static_cast<size_t>(key);
      double s = score(products[at], errors[at], shift, result.decided);
      if (key > query) s = round_in(double{static_cast<float>(s) + lowest(nodes_.scaled)}, nodes_.scaled);
      if (nodes_.inf_to_zero && std::isinf(s)) s = 0;
      scores.push_back(s);
    }
    scores.resize(kKeys, -INFINITY);
    const double highest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const double s : scores) sum += std::exp(s - highest);
    for (const double s : scores) {
      const double e = std::exp(s - highest);
      const double p = nodes_.normalised ? round_in(e / sum, nodes_.probabilities)
                                         : round_in(e, nodes_.probabilities) / sum;
      const double argument = std::isfinite(s) ? std::abs(s - highest) + (fused() ? std::abs(s) : 0) : 0;
      double error = 2 * 0x1p-21 + argument * 0x1p-22 + kKeys * 0x1p-23;
      for (const DType type : {nodes_.probabilities, nodes_.output}) {
        if (type == DType::bf16 || type == DType::f16) error += epsilon_of(type);
      }
      result.out.push_back(round_in(p, nodes_.output));
      // Below the smallest normal number the spacing is fixed.
      result.tolerance.push_back(error * p + 2 * 0x1p-24);
    }
    return result;
  }

 private:
  bool fused() const { return nodes_.scale == ScalePlacement::fused; }

  // q.k, and how far an f32 sum may be from it.
  double product(int64_t query, int64_t q_head, int64_t key, double& error) const {
    const bool split = nodes_.scale == ScalePlacement::split, before = nodes_.scale == ScalePlacement::before;
    const float factor = static_cast<float>(split ? std::sqrt(kScale) : kScale);
    double sum = 0, magnitude = 0;
    for (int64_t c = 0; c < kHeadDim; ++c) {
      auto q = static_cast<float>(element(head_.q.view(), query, q_head, c));
      auto k = static_cast<float>(element(head_.k.view(), key, 0, c));
      if (split || before) q = rounded(q * factor, nodes_.scaled);
      if (split) k = rounded(k * factor, nodes_.scaled);
      sum += double{q} * double{k};
      magnitude += std::abs(double{q} * double{k});
    }
    error = split || before ? kHeadDim * 0x1p-24 * magnitude : 0;
    return sum;
  }

  // What the cures take away from every key, in fp32: from raw products the centre, which is their mean (for
  // less than 256 keys there is one block), from scaled ones the row's maximum.
  double shift_of(const std::vector<double>& products, int64_t query) const {
    const auto end = products.begin() + query + 1;
    if (nodes_.score_shift == ScoreShift::row_max) {
      return double{static_cast<float>(*std::max_element(products.begin(), end)) *
                    static_cast<float>(kScale)};
    }
    if (nodes_.k_centring == KCentring::none) return 0;
    double sum = 0;
    for (auto at = products.begin(); at != end; ++at) sum += *at;
    return double{static_cast<float>(sum / static_cast<double>(query + 1))};
  }

  double score(double product, double error, double shift, bool& decided) const {
    const bool split = nodes_.scale == ScalePlacement::split, before = nodes_.scale == ScalePlacement::before;
    if (nodes_.score_shift == ScoreShift::row_max) {
      const float scaled = static_cast<float>(product) * static_cast<float>(kScale);
      return round_in(double{scaled - static_cast<float>(shift)}, nodes_.scaled);
    }
    product = double{static_cast<float>(product) - static_cast<float>(shift)};
    const double s = round_in(product, nodes_.scores);
    if (round_in(product - error, nodes_.scores) != round_in(product + error, nodes_.scores)) decided = false;
    if (split || before) return s;
    if (fused()) return s * double{static_cast<float>(kScale)};
    if (nodes_.scale == ScalePlacement::divide) {
      return round_in(double{static_cast<float>(s) / static_cast<float>(std::sqrt(double{kHeadDim}))},
                      nodes_.scaled);
    }
    return round_in(double{static_cast<float>(s) * static_cast<float>(kScale)}, nodes_.scaled);
  }

  const Head& head_;
  AttentionPrecision nodes_;
};

// The largest difference from the emulation of `nodes`, in units of its tolerance.
double disagreement(const std::vector<float>& out, const Head& head, const AttentionPrecision& nodes) {
  Emulation emulation(head, nodes);
  double worst = 0;
  int64_t left_out = 0;
  for (int64_t query = 0; query < kKeys; ++query) {
    for (int64_t h = 0; h < 2; ++h) {
      const EmulatedRow row = emulation.row(query, h);
      left_out += row.decided ? 0 : 1;
      for (int64_t c = 0; row.decided && c < kHeadDim; ++c) {
        const auto at = static_cast<size_t>(c);
        const double found = double{out[static_cast<size_t>((query * 2 + h) * kHeadDim + c)]};
        const double apart = std::abs(found - row.out[at]) / row.tolerance[at];
        worst = std::isnan(apart) ? INFINITY : std::max(worst, apart);
      }
    }
  }
  EXPECT_LT(left_out, 2 * kKeys / 4);
  return worst;
}

// What this problem cannot show: with V = identity the rounding of P hides behind that of the output; the
// patch does nothing where no score is below -16; product and quotient differ by an f32 spacing (all told
// apart below); the mean key and that of the first 256 are the same for 48, and without it the scores of this
// problem are too small to lose much.
bool looks_the_same(AttentionPrecision a, const AttentionPrecision& b) {
  const auto both = [&](ScalePlacement one, ScalePlacement other) {
    return (a.scale == one && b.scale == other) || (a.scale == other && b.scale == one);
  };
  const bool one_centred = a.k_centring != KCentring::none, other_centred = b.k_centring != KCentring::none;
  const bool one_wide = a.scores == DType::f32, other_wide = b.scores == DType::f32;
  if ((one_wide || one_centred) && (other_wide || other_centred)) return true;
  if (both(ScalePlacement::after, ScalePlacement::divide)) a.scale = b.scale;
  a.probabilities = b.probabilities;
  a.normalised = b.normalised;
  a.inf_to_zero = b.inf_to_zero;
  return a == b;
}

TEST(PresetAttention, EachIsItsEmulationAndNoOther) {
  int told_apart = 0;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Head head(dtype);
    for (const Preset& preset : presets()) {
      if (preset.dtype && *preset.dtype != dtype) continue;
      const AttentionPrecision nodes = preset.tower(Tower::text, dtype).attention;
      const std::vector<float> out = run(preset.attention, head.problem(nodes));
      EXPECT_LE(disagreement(out, head, nodes), 1) << preset.name << " " << name_of(dtype);
      for (const Preset& other : presets()) {
        if (other.dtype && *other.dtype != dtype) continue;
        const AttentionPrecision theirs = other.tower(Tower::text, dtype).attention;
        if (looks_the_same(nodes, theirs)) continue;
        EXPECT_GT(disagreement(out, head, theirs), 4) << preset.name << " as " << other.name;
        ++told_apart;
      }
    }
  }
  EXPECT_GT(told_apart, 30);
}

TEST(PresetAttention, EveryScalePlacementIsItsEmulation) {
  const Head head(DType::bf16);
  for (const ScalePlacement placement :
       {ScalePlacement::after, ScalePlacement::divide, ScalePlacement::before, ScalePlacement::split,
        ScalePlacement::fused}) {
    for (const MaskAdd mask : {MaskAdd::additive, MaskAdd::skip}) {
      AttentionPrecision nodes = AttentionPrecision::of(AttentionKind::eager, DType::bf16);
      nodes.scale = placement;
      nodes.mask = mask;
      if (placement == ScalePlacement::fused) nodes.scores = DType::f32;
      AttentionPrecision expected = nodes;
      // The emulation's fused score is exact: eager rounds it once more, to `scaled`.
      if (placement == ScalePlacement::fused) expected.scale = ScalePlacement::after;
      EXPECT_LE(disagreement(run(AttentionKind::eager, head.problem(nodes)), head, expected), 1)
          << name_of(placement) << " " << name_of(mask);
    }
  }
}

// S * d^-0.5 and S / sqrt(d) are an f32 spacing apart for some S; where that straddles a boundary of fp16 the
// scores of the old and the new eager are neighbours. The search finds such a score, and the key beside it
// has one on which both agree.
TEST(PresetAttention, OldEagerDividesAndNewEagerMultiplies) {
  const auto scaled = [](int64_t d, int64_t score, bool old) {
    const auto s = static_cast<float>(score);
    const double root = std::sqrt(static_cast<double>(d));
    return rounded(old ? s / static_cast<float>(root) : s * static_cast<float>(1 / root), DType::f16);
  };
  int64_t found = 0;
  for (int64_t d = 64; d <= 264; ++d) {
    for (int64_t score = 1024; score < 2047; ++score) {
      if (scaled(d, score, false) == scaled(d, score, true)) continue;
      if (scaled(d, score + 1, false) != scaled(d, score + 1, true)) continue;
      ++found;
      Tensor q(DType::f32, 1, 1, d), k(DType::f16, 2, 1, d), v(DType::f16, 2, 1, d);
      for (int64_t c = 0; c < d; ++c) {
        q.set(0, 0, c, c == 0 ? 1 : 0);
        for (int64_t t = 0; t < 2; ++t) {
          k.set(t, 0, c, c == 0 ? static_cast<double>(score + t) : 0);
          v.set(t, 0, c, t == 0 ? 1 : 0);
        }
      }
      AttentionProblem problem;
      problem.q = q.view();
      problem.k = k.view();
      problem.v = v.view();
      problem.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
      for (const bool old : {false, true}) {
        const Preset& preset = preset_named(old ? "eager-fp16-old" : "eager-fp16");
        problem.precision = preset.tower(Tower::text, DType::f16).attention;
        const double difference = double{scaled(d, score + 1, old)} - double{scaled(d, score, old)};
        const double p = 1 / (1 + std::exp(difference));
        // A spacing of a score (2^-4 from 64 on) moves P by 2^-7 or more, a rounding by 2^-11.
        EXPECT_NEAR(double{run(AttentionKind::eager, problem)[0]}, p, epsilon_of(DType::f16))
            << d << " " << score;
      }
    }
  }
  EXPECT_GT(found, 0);
}

// P = 1/3 exactly, which is 0.33398 in bf16, and V = (3, 0.009, 0): 1.0030 rounds to 1, 1.0050 to 1.0078.
TEST(PresetAttention, ProbabilitiesKeepFp32OnlyWhereV_WasCastUpToo) {
  Tensor q(DType::f32, 1, 1, 4), k(DType::bf16, 3, 1, 4), v(DType::bf16, 3, 1, 4);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t c = 0; c < 4; ++c) {
      q.set(0, 0, c, 1);
      k.set(t, 0, c, 1);
      v.set(t, 0, c, t == 0 ? 3 : t == 1 ? 0.009 : 0);
    }
  }
  AttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.scale = 0.5f;
  const auto out = [&](const char* preset) {
    problem.precision = preset_named(preset).tower(Tower::text, DType::bf16).attention;
    return run(preset_named(preset).attention, problem)[0];
  };
  EXPECT_EQ(out("eager-qk-fp32"), 1.0078125f);
  EXPECT_EQ(out("eager-bf16"), 1.0078125f);
  EXPECT_EQ(out("eager-qkv-fp32"), 1.f);
  EXPECT_EQ(out("sdpa"), 1.f);
  EXPECT_EQ(out("flash-bf16"), 1.f);  // its P is 1 before it is divided
}

// One query that sees 512 keys of scaled score `seen`, with 512 behind the mask of which `deep` have -17 and
// the others `seen`: the weight that goes to the masked ones.
double leak(const char* preset, double seen, int64_t deep) {
  constexpr int64_t kVisible = 512, kMasked = 512;
  Tensor q(DType::f32, kMasked + 1, 1, 4), k(DType::f16, kVisible + kMasked, 1, 4),
      v(DType::f16, kVisible + kMasked, 1, 4);
  for (int64_t t = 0; t < kVisible + kMasked; ++t) {
    const double score = t >= kVisible && t < kVisible + deep ? -17 : seen;
    for (int64_t c = 0; c < 4; ++c) {
      if (t <= kMasked) q.set(t, 0, c, c == 0 ? 2 : 0);
      k.set(t, 0, c, c == 0 ? score : 0);  // 2 * score / sqrt(4)
      v.set(t, 0, c, t < kVisible ? 0 : 1);
    }
  }
  AttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.scale = 0.5f;
  problem.causal = true;
  problem.precision = preset_named(preset).tower(Tower::text, DType::f16).attention;
  return double{run(preset_named(preset).attention, problem)[0]};
}

// A masked score of -65504 + s is -inf in fp16 once s <= -16; the patch makes it 0, which beats what is seen.
TEST(PresetAttention, OldFp16EagerLeaksToMaskedKeys) {
  struct Case {
    double seen;
    int64_t deep, patched;  // patched: how many masked scores become 0
  };
  for (const Case& c : {Case{0, 0, 0}, Case{-8, 0, 0}, Case{-15.9375, 0, 0}, Case{-12, 1, 1}, Case{-8, 1, 1},
                        Case{-16, 0, 512}, Case{-950, 0, 512}}) {
    const auto masked = static_cast<double>(c.patched);
    const double expected = masked == 0 ? 0 : masked / (masked + 512 * std::exp(c.seen));
    // Roundings of each weight and of the output, at most one fp16 spacing each.
    EXPECT_NEAR(leak("eager-fp16-old", c.seen, c.deep), expected, 2 * epsilon_of(DType::f16) * expected)
        << c.seen;
    for (const char* sound : {"eager-fp16", "eager-qkv-fp32", "eager-qk-fp32", "sdpa", "sdpa-math-low",
                              "flash-fp16", "reference"}) {
      EXPECT_EQ(leak(sound, c.seen, c.deep), 0) << sound << " " << c.seen;
    }
  }
  EXPECT_GT(leak("eager-fp16-old", -12, 1), 0.99);
}

// Sequential sums in 8 bits stagnate: of n equal weights only the first few hundred count.
TEST(PresetAttention, NarrowSoftmaxAndAccumulatorLoseWhatWideOnesKeep) {
  const int64_t n = 4096;
  Tensor q(DType::f32, 1, 1, 4), k(DType::bf16, n, 1, 4), v(DType::bf16, n, 1, 4);
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t c = 0; c < 4; ++c) {
      q.set(0, 0, c, 0);
      k.set(t, 0, c, 1);
      v.set(t, 0, c, 1);
    }
  }
  AttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.scale = 0.5f;
  AttentionPrecision nodes = AttentionPrecision::of(AttentionKind::eager, DType::bf16);
  const auto out = [&](const AttentionPrecision& precision) {
    problem.precision = precision;
    return run(AttentionKind::eager, problem)[0];
  };
  EXPECT_EQ(out(nodes), 1.f);
  AttentionPrecision softmax = nodes, pv = nodes;
  softmax.softmax = DType::bf16;  // 1 + 1 + ... stops at 256
  EXPECT_EQ(out(softmax), static_cast<float>(n) / 256);
  pv.pv = DType::bf16;  // 64 keys add 2^-6: the sum stays exact up to 2, so nothing is lost here
  EXPECT_EQ(out(pv), 1.f);
  v.set(0, 0, 0, 1024);  // 2^-2 more: then 2^-6 blocks are half a spacing or less from 2 on
  pv.normalised = false;
  pv.probabilities = DType::f32;
  // Unnormalised blocks: 1087 rounds to 1088, then 64 at a time until 4096 - 64 more keys are in: exact 5119,
  // and in bf16 1088 + 15 * 64 = 2048, from where 64 is four spacings of 16: 5120 again.
  EXPECT_EQ(out(pv), 1.25f);
}

}  // namespace
}  // namespace fovea
