// Goal: with the large K biases of Qwen2.5, sdpa, flash_attention_2 and every cure stay near the rounding
// floor of their output for every bias and length, while eager in 16 bits fails as transformers' does
// (positive control). Method: a synthetic head. E_kernel is the relative distance of a row from the f64
// result on the same rounded inputs, r divides it by that of the f64 result rounded once; medians and maxima
// of r over rows, bias and length. E_total is the distance from f64 on inputs that were never rounded: there
// the bias split beats flash itself, which reads a rounded K like everyone else. The demands are measurements
// of the same head in an emulation (torch bit-checked), with room for other seeds.
#include <gtest/gtest.h>

#include "attention/rows.h"
#include "attention/synthetic_head_testing.h"

namespace fovea {
namespace {

using namespace attention_testing;

// ---- the implementations of the table

struct Method {
  const char* name;
  AttentionKind kind;
  AttentionPrecision precision;
  double median, largest;  // demanded of r
};

AttentionPrecision eager_nodes(DType dtype) { return AttentionPrecision::of(AttentionKind::eager, dtype); }

AttentionPrecision upcast(DType dtype, bool probabilities) {
  AttentionPrecision p = eager_nodes(dtype);
  p.scores = p.scaled = DType::f32;
  if (probabilities) p.probabilities = DType::f32;
  return p;
}

AttentionPrecision max_shifted(DType dtype) {
  AttentionPrecision p = eager_nodes(dtype);
  p.scores = DType::f32;
  p.scale = ScalePlacement::fused;
  p.score_shift = ScoreShift::row_max;
  p.mask = MaskAdd::skip;
  return p;
}

AttentionPrecision centred(DType dtype, KCentring centring) {
  AttentionPrecision p = eager_nodes(dtype);
  p.k_centring = centring;
  return p;
}

std::vector<Method> sound_methods(DType dtype) {
  const AttentionKind eager = AttentionKind::eager, flash = AttentionKind::flash_attention_2;
  return {{"sdpa", AttentionKind::sdpa, all_in(dtype), 1.05, 1.10},
          {"flash", flash, all_in(dtype), 1.5, 2.0},
          {"upcast", eager, upcast(dtype, true), 1.05, 1.10},
          {"scores fp32", eager, upcast(dtype, false), 1.6, 3.0},
          {"max-shift", eager, max_shifted(dtype), 4, 7},
          {"centred", eager, centred(dtype, KCentring::mean), 8, 50},
          {"centred256", eager, centred(dtype, KCentring::block256), 8, 50}};
}

double relative_distance(const float* out, const double* truth) {
  double error = 0, norm = 0;
  for (int64_t c = 0; c < kHeadDim; ++c) {
    error += (out[c] - truth[c]) * (out[c] - truth[c]);
    norm += truth[c] * truth[c];
  }
  return std::sqrt(error / norm);
}

// r = E_kernel / E_outround of each row.
std::vector<double> ratios_of(const std::vector<float>& out, const AttentionProblem& problem,
                              const std::vector<double>& truth) {
  std::vector<double> ratios;
  for (int64_t h = 0; h < problem.q.heads; ++h) {
    const double* exact = truth.data() + h * kHeadDim;
    float once[kHeadDim];
    for (int64_t c = 0; c < kHeadDim; ++c)
      once[c] = rounded(static_cast<float>(exact[c]), problem.precision.output);
    ratios.push_back(relative_distance(out.data() + h * kHeadDim, exact) / relative_distance(once, exact));
  }
  return ratios;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double largest(const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); }

std::vector<float> result_of(const Method& method, AttentionProblem problem) {
  problem.precision = method.precision;
  return run(method.kind, problem);
}

// exp() of the scores with P rounded to the 11 significant bits of TF32: what upcast eager computes where f32
// products run on TF32 units. q, k and v are 16-bit and lose nothing there.
std::vector<float> tf32_upcast(const AttentionProblem& problem) {
  std::vector<float> out;
  for (int64_t h = 0; h < problem.q.heads; ++h) {
    std::vector<double> p;
    double highest = -1e300, sum = 0;
    for (int64_t t = 0; t < problem.k.tokens; ++t) {
      float score = 0;
      for (int64_t c = 0; c < kHeadDim; ++c) {
        score += static_cast<float>(value_at(problem.q, 0, h, c) * value_at(problem.k, t, 0, c));
      }
      p.push_back(double{score * problem.scale});
      highest = std::max(highest, p.back());
    }
    for (double& x : p) sum += x = std::exp(x - highest);
    for (double& x : p) {
      int exponent;
      const double fraction = std::frexp(x / sum, &exponent);
      x = std::ldexp(std::nearbyint(fraction * 0x1p11), exponent - 11);
    }
    for (int64_t c = 0; c < kHeadDim; ++c) {
      float value = 0;
      for (int64_t t = 0; t < problem.v.tokens; ++t) {
        value += static_cast<float>(p[static_cast<size_t>(t)] * value_at(problem.v, t, 0, c));
      }
      out.push_back(rounded(value, problem.precision.output));
    }
  }
  return out;
}

// r of each row of some seeds of one cell, for every sound method, TF32 and eager (the last two).
struct Cell {
  Cell(HeadOptions options, int seeds, bool all = true) : methods(sound_methods(options.dtype)) {
    if (!all) methods.resize(2);
    methods.push_back({"upcast TF32", AttentionKind::eager, {}, 1.05, 1.15});
    ratios.resize(methods.size());
    for (int seed = 0; seed < seeds; ++seed) {
      options.seed = 1000 + static_cast<uint64_t>(seed);
      const SyntheticHead head(options);
      const AttentionProblem problem = head.problem();
      const std::vector<double> truth = run_reference(problem);
      const auto add = [&](std::vector<double>& to, const std::vector<float>& out) {
        for (const double r : ratios_of(out, problem, truth)) to.push_back(r);
      };
      for (size_t m = 0; m + 1 < methods.size(); ++m) add(ratios[m], result_of(methods[m], problem));
      add(ratios.back(), tf32_upcast(problem));
      if (all) add(eager, run(AttentionKind::eager, problem));
    }
  }

  void expect_demands(const std::string& where) const {
    for (size_t m = 0; m < methods.size(); ++m) {
      EXPECT_LE(median(ratios[m]), methods[m].median) << methods[m].name << " " << where;
      EXPECT_LE(largest(ratios[m]), methods[m].largest) << methods[m].name << " " << where;
    }
    // Rounding P is visible: a flash that kept f32 probabilities would not be FlashAttention-2.
    EXPECT_GE(median(ratios[1]), 1.15) << where;
  }

  std::vector<Method> methods;
  std::vector<std::vector<double>> ratios;
  std::vector<double> eager;
};

constexpr double kBiases[] = {0, 10, 50, 100, 200, 400};

TEST(AttentionNumerics, CuredAndFusedStayAtTheFloorWhereEagerFails) {
  for (const int64_t tokens : {256, 1024, 4096}) {
    std::vector<double> first;
    for (const double bias : kBiases) {
      const std::string where = "n=" + std::to_string(tokens) + " B=" + std::to_string(bias);
      const Cell cell({.tokens = tokens, .bias = bias}, tokens == 4096 ? 3 : 8);
      cell.expect_demands(where);
      const double eager = median(cell.eager);
      EXPECT_GE(eager, bias >= 50 ? 150 : bias >= 10 ? 40 : 1) << "positive control, " << where;
      RecordProperty("eager_median_" + where, std::to_string(eager));
      if (bias == 0) {
        for (const auto& ratios : cell.ratios) first.push_back(median(ratios));
      }
      if (bias != 400) continue;
      for (const size_t m : {0u, 1u, 2u, 3u, 4u}) {  // all but the centred ones are flat in the bias
        EXPECT_LE(median(cell.ratios[m]) / first[m], 1.2) << cell.methods[m].name << " n=" << tokens;
      }
    }
  }
}

// A 16-bit accumulator would grow with n.
TEST(AttentionNumerics, ErrorIsFlatInLength) {
  for (const double bias : {0.0, 100.0}) {
    const Cell near({.tokens = 256, .bias = bias}, 10, false), far({.tokens = 32768, .bias = bias}, 2, false);
    far.expect_demands("n=32768");
    for (size_t m = 0; m < far.methods.size(); ++m) {
      EXPECT_LE(median(far.ratios[m]) / median(near.ratios[m]), 1.3) << far.methods[m].name << " B=" << bias;
    }
  }
}

double median_error(const Method& method, HeadOptions options, int seeds, bool total) {
  std::vector<double> errors;
  for (int seed = 0; seed < seeds; ++seed) {
    options.seed = 1000 + static_cast<uint64_t>(seed);
    const SyntheticHead head(options);
    const std::vector<double> truth = total ? head.exact_result() : run_reference(head.problem());
    const std::vector<float> out = result_of(method, head.problem());
    for (int64_t h = 0; h < options.group; ++h) {
      errors.push_back(relative_distance(out.data() + h * kHeadDim, truth.data() + h * kHeadDim));
    }
  }
  return median(errors);
}

// How far each cure of stored scores carries: the faster the pairs that hold the bias turn, the less of it is
// the same for all keys. Emulation at n = 16384 and B = 100, E_kernel, for pairs 60, 48, 37, 21: mean key
// .011, .083, .91, .72; 256-key blocks .011, .0098, .012, .46; row maximum 5.4e-3 to 2.8e-3.
TEST(AttentionNumerics, FastPairsDefeatCentringButNotTheRowMaximum) {
  const std::vector<Method> methods = sound_methods(DType::bf16);
  const Method &shift = methods[4], &mean = methods[5], &blocks = methods[6];
  const auto error = [](const Method& method, int64_t pair) {
    return median_error(method, {.tokens = 8192, .bias = 100, .first_pair = pair}, 2, false);
  };
  for (const int64_t pair : {60, 48, 37, 21}) EXPECT_LE(error(shift, pair), 0.008) << pair;
  for (const int64_t pair : {60, 48, 37}) EXPECT_LE(error(blocks, pair), 0.016) << pair;
  EXPECT_GE(error(blocks, 21), 0.1);
  EXPECT_LE(error(mean, 60), 0.016);
  EXPECT_GE(error(mean, 37), 0.3);
}

// The input floor: what rounding K costs whoever reads it, and what the bias split saves. Emulation at n =
// 4096: flash .061 at B = 10 to .77 at 200; bias split with bf16 scores .011, with fp32 scores .0056.
TEST(AttentionNumerics, BiasSplitIsCloserToExactArithmeticThanFlash) {
  const Method flash{"flash", AttentionKind::flash_attention_2, all_in(DType::bf16), 0, 0},
      sdpa{"sdpa", AttentionKind::sdpa, all_in(DType::bf16), 0, 0},
      eager{"eager", AttentionKind::eager, all_in(DType::bf16), 0, 0};
  for (const double bias : {10.0, 50.0, 100.0, 200.0, 400.0}) {
    const HeadOptions whole{.tokens = 2048, .bias = bias};
    HeadOptions split = whole;
    split.split = true;
    EXPECT_GE(median_error(flash, whole, 3, true), bias >= 50 ? 0.15 : 0.03) << "control, B=" << bias;
    EXPECT_LE(median_error(flash, split, 3, true), 0.009) << bias;
    EXPECT_LE(median_error(sdpa, split, 3, true), 0.009) << bias;
    EXPECT_LE(median_error(eager, split, 3, true), 0.02) << bias;
  }
  // Nor need the pairs be slow. Where they turn within the context (21: 585 tokens) the rounding of q, which
  // is not split, meets a bias that differs between keys: that much remains.
  for (const int64_t pair : {37, 21}) {
    const HeadOptions whole{.tokens = 4096, .bias = 100, .first_pair = pair};
    HeadOptions split = whole;
    split.split = true;
    const double fused = median_error(flash, whole, 2, true);
    EXPECT_LE(median_error(flash, split, 2, true), pair == 37 ? 0.009 : fused / 5) << pair << " " << fused;
    EXPECT_LE(median_error(eager, split, 2, true), pair == 37 ? 0.02 : fused / 5) << pair << " " << fused;
  }
}

// The kernels' own part, against f64 on the same stored K and the same bias.
TEST(AttentionNumerics, BiasSplitKeepsTheKernelsAtTheirFloor) {
  for (const double bias : {0.0, 100.0, 400.0}) {
    std::vector<Method> methods = sound_methods(DType::bf16);
    methods.resize(5);
    methods.push_back({"eager", AttentionKind::eager, all_in(DType::bf16), 8, 20});
    for (const Method& method : methods) {
      std::vector<double> ratios;
      for (uint64_t seed = 1000; seed < 1004; ++seed) {
        const SyntheticHead head({.tokens = 1024, .bias = bias, .seed = seed, .split = true});
        const AttentionProblem problem = head.problem();
        for (const double r : ratios_of(result_of(method, problem), problem, run_reference(problem)))
          ratios.push_back(r);
      }
      EXPECT_LE(median(ratios), method.median) << method.name << " B=" << bias;
      EXPECT_LE(largest(ratios), method.largest) << method.name << " B=" << bias;
    }
  }
}

// K in 4 bits per token: the step is set by the largest column, which with the bias inside is the bias.
TEST(AttentionNumerics, BiasSplitMakesAQuantisedCacheSafe) {
  const auto quantised_error = [](bool split) {
    SyntheticHead head({.tokens = 512, .bias = 100, .split = split});
    for (int64_t t = 0; t < 512; ++t) {
      double most = 0;
      for (int64_t c = 0; c < kHeadDim; ++c)
        most = std::max(most, std::abs(value_at(head.k.view(), t, 0, c)));
      const double step = most / 7;
      for (int64_t c = 0; c < kHeadDim; ++c) {
        head.k.set(t, 0, c, step * std::nearbyint(value_at(head.k.view(), t, 0, c) / step));
      }
    }
    const std::vector<float> out = run(AttentionKind::flash_attention_2, head.problem());
    const std::vector<double> truth = head.exact_result();
    std::vector<double> errors;
    for (int64_t h = 0; h < kGroup; ++h) {
      errors.push_back(relative_distance(out.data() + h * kHeadDim, truth.data() + h * kHeadDim));
    }
    return median(errors);
  };
  // Steps of 100 / 7 leave nothing of N(0, 1); steps of 3 / 7 cost a score q^2 step^2 d / 12 / d = 0.12^2
  // nats for the content and 13.4^2 * 8 / 128 times as much for the bias columns (0.43 together, E 0.4 to
  // 0.5).
  EXPECT_GE(quantised_error(false), 0.9);
  EXPECT_LE(quantised_error(true), 0.6);
}

// raw scores of 1e5 exceed fp16's 65504: only an implementation that stores them in fp16 may notice.
// At S = 9000 after scaling even f32 scores cost E = 0.8 * S * 2^-24 = 4.3e-4 (median), 2.1 times the fp16
// floor of 2.05e-4; twice that in a bad row, in quadrature with the 2.0 allowed to flash, is 4.7.
TEST(AttentionNumerics, ScoresBeyondFp16RangeAreFine) {
  const SyntheticHead head({.tokens = 1024, .bias = 400, .query_offset = 32, .dtype = DType::f16});
  const AttentionProblem problem = head.problem();
  const std::vector<double> truth = run_reference(problem);
  for (const Method& method : sound_methods(DType::f16)) {
    // f32's own part in quadrature with what each method is allowed elsewhere.
    const double allowed = std::max(5.0, std::hypot(4.3, method.largest));
    for (const double r : ratios_of(result_of(method, problem), problem, truth)) {
      EXPECT_LE(r, allowed) << method.name;  // false for NaN
    }
  }
  const std::vector<float> eager = run(AttentionKind::eager, problem);
  EXPECT_TRUE(std::any_of(eager.begin(), eager.end(), [](float x) { return std::isnan(x); }))
      << "positive control";
}

// Where every visible score is -950, fp16's mask sum -65504 - 950 overflows to -inf. An implementation that
// turned infinities into 0 would give all weight to the future.
TEST(AttentionNumerics, MaskedWeightIsZeroWhenScoresAreVeryNegative) {
  const int64_t n = 128;
  Tensor q(DType::f32, n, 1, kHeadDim), k(DType::f16, n, 1, kHeadDim), v(DType::f16, n, 1, kHeadDim);
  Random random(5);
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t c = 0; c < kHeadDim; ++c) {
      q.set(t, 0, c, c < 8 ? 13.4 : 0);
      k.set(t, 0, c, c < 8 ? -100 : random.normal());
      v.set(t, 0, c, t < n / 2 ? 1 : 30000);
    }
  }
  AttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.scale = static_cast<float>(1 / std::sqrt(128.0));
  problem.causal = true;
  problem.precision = all_in(DType::f16);
  std::vector<Method> methods = sound_methods(DType::f16);
  methods.push_back({"eager", AttentionKind::eager, all_in(DType::f16), 0, 0});
  for (const Method& method : methods) {
    const std::vector<float> out = result_of(method, problem);
    for (int64_t i = 0; i < n / 2 * kHeadDim; ++i)
      ASSERT_NEAR(out[static_cast<size_t>(i)], 1.f, 1e-3f) << method.name;
  }
}

// ---- retrieval: is the value behind the needle still found?
// ----------------------------------------------------

constexpr int64_t kCodes = 64;

using Codes = std::array<Row, kCodes>;

int64_t nearest_code(const Codes& codes, const std::vector<double>& out) {
  int64_t best = 0;
  double best_distance = std::numeric_limits<double>::infinity();
  for (int64_t code = 0; code < kCodes; ++code) {
    double distance = 0;
    for (size_t c = 0; c < kHeadDim; ++c) distance += (out[c] - codes[code][c]) * (out[c] - codes[code][c]);
    if (distance < best_distance) best_distance = distance, best = code;
  }
  return best;
}

// A head with one needle, and `rivals` near-duplicates whose logit is 4 below it. Everything else together
// has weight exp(-lead) of the needle's.
struct NeedleTask {
  NeedleTask(double bias, uint64_t seed, int64_t rivals, double lead, bool split)
      : head({.tokens = 512, .bias = bias, .seed = seed, .group = 1, .split = split}) {
    Random random(seed + 77777);
    for (Row& code : codes) {
      for (double& x : code) x = random.normal();
    }
    const AttentionProblem p = head.problem();
    const auto* query = static_cast<const float*>(p.q.at(0, 0));
    const auto score = [&](int64_t token, bool bias_columns, bool others) {
      double sum = 0;
      for (int64_t c = 0; c < kHeadDim; ++c) {
        if (head.is_bias_column(c) ? bias_columns : others) sum += double{query[c]} * key_at(p, token, 0, c);
      }
      return sum * p.scale;
    };
    double highest = -1e30, sum = 0, norm = 0;
    for (int64_t t = 0; t < 512; ++t) highest = std::max(highest, score(t, true, true));
    for (int64_t t = 0; t < 512; ++t) sum += std::exp(score(t, true, true) - highest);
    for (int64_t c = 0; c < kHeadDim; ++c) norm += head.is_bias_column(c) ? 0 : query[c] * double{query[c]};
    for (int64_t i = 0; i <= rivals; ++i) {
      const int64_t token = 20 + 31 * i;
      const double wanted = highest + std::log(sum) + lead - (i == 0 ? 0 : 4);
      const double along_query = (wanted - score(token, true, false)) / (p.scale * norm);
      for (int64_t c = 0; c < kHeadDim; ++c) {
        if (!head.is_bias_column(c)) head.k.set(token, 0, c, along_query * double{query[c]});
        head.v.set(token, 0, c, codes[i == 0 ? needle_code : (needle_code + i) % kCodes][c]);
      }
    }
  }

  bool found_by(const Method& method) const {
    const std::vector<float> out = result_of(method, head.problem());
    return nearest_code(codes, {out.begin(), out.end()}) == needle_code;
  }
  bool found_exactly() const { return nearest_code(codes, run_reference(head.problem())) == needle_code; }

  SyntheticHead head;
  Codes codes;
  int64_t needle_code = 13;
};

// Of `rows` seeds, how many each sound method decodes, eager (the last), and the f64 reference.
struct Retrieval {
  Retrieval(double bias, int rows, int64_t rivals, double lead, bool split = false)
      : methods(sound_methods(DType::bf16)) {
    methods.push_back({"eager", AttentionKind::eager, all_in(DType::bf16), 0, 0});
    found.resize(methods.size());
    for (int row = 0; row < rows; ++row) {
      const NeedleTask task(bias, 5000 + static_cast<uint64_t>(row), rivals, lead, split);
      exact += task.found_exactly();
      for (size_t m = 0; m < methods.size(); ++m) found[m] += task.found_by(methods[m]);
    }
  }

  // `count` methods are within two rows of exact arithmetic.
  void expect_equal(size_t count, const std::string& where) const {
    for (size_t m = 0; m < count; ++m) EXPECT_LE(std::abs(found[m] - exact), 2) << methods[m].name << where;
  }

  std::vector<Method> methods;
  std::vector<int> found;
  int exact = 0;
};

TEST(AttentionNumerics, CuredAndFusedRetrieveWhatExactArithmeticRetrieves) {
  constexpr int kRows = 60;
  for (const double bias : {50.0, 100.0, 200.0, 400.0}) {
    const Retrieval one(bias, kRows, 0, 2.0), crowd(bias, kRows, 15, 5.0);
    one.expect_equal(one.methods.size() - 1, " one, B=" + std::to_string(bias));
    crowd.expect_equal(one.methods.size() - 1, " crowd, B=" + std::to_string(bias));
    EXPECT_GE(one.exact, kRows * 0.9) << "the task itself is broken, B=" << bias;
    EXPECT_GE(crowd.exact, kRows * 0.85) << "the task itself is broken, B=" << bias;
    const int eager = crowd.found.back();
    EXPECT_LE(eager, bias >= 200 ? kRows * 0.4 : kRows)
        << "positive control: eager bf16 loses it among rivals";
    RecordProperty("eager_found_of_60_B" + std::to_string(static_cast<int>(bias)), eager);
  }
}

// With the bias kept out of K even eager finds it.
TEST(AttentionNumerics, BiasSplitRetrievesEverywhere) {
  constexpr int kRows = 40;
  for (const double bias : {100.0, 400.0}) {
    const Retrieval crowd(bias, kRows, 15, 5.0, true);
    EXPECT_GE(crowd.exact, kRows - 1);
    crowd.expect_equal(crowd.methods.size(), " B=" + std::to_string(bias));
  }
}

}  // namespace
}  // namespace fovea
