// Goal: eager in bf16 and fp16 rounds exactly where transformers' eager rounds, with every kernel variant.
// Method: attention_goldens.bin (tools/make_attention_goldens.py) and ours are compared with the interval
// that the f32 sums leave to each output (eager_bounds_testing.h): one number, hence equal bits, except near
// a rounding boundary. The normalised P is seen through V = identity. A node that is not rounded, and sdpa
// and flash_attention_2 under large biases, are the positive controls: they leave the intervals.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "attention/attention_testing.h"
#include "attention/eager_bounds_testing.h"

namespace fovea {
namespace {

using namespace attention_testing;

struct GoldenCase {
  bool probabilities;
  int64_t tokens_q, tokens_kv, heads_q, heads_kv, head_dim;
  bool causal;
  double bias;
};

// CASES of the script.
constexpr GoldenCase kCases[] = {
    {true, 40, 64, 2, 1, 64, true, 0},      {true, 32, 64, 2, 2, 64, true, 50},
    {false, 40, 40, 2, 2, 80, false, 0},    {false, 12, 150, 4, 2, 128, true, 0},
    {false, 12, 300, 2, 1, 128, true, 100},
};

// values() of the script, rounded to `values`.
Tensor golden_values(DType storage, DType values, uint64_t seed, int64_t tokens, int64_t heads,
                     int64_t head_dim, double offset) {
  Tensor out(storage, tokens, heads, head_dim);
  Random random(seed);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t c = 0; c < head_dim; ++c) {
        const uint64_t bits = random.bits();
        double total = 0;
        for (const int shift : {0, 16, 32, 48}) total += static_cast<double>((bits >> shift) & 0xffff);
        const double x = (total - 131070.0) / 37837.0 + (c < 4 ? offset : 0.0);
        out.set(t, h, c, rounded(static_cast<float>(x), values));
      }
    }
  }
  out.holds(values);
  return out;
}

Tensor identity(DType dtype, int64_t tokens, int64_t heads) {
  Tensor out(dtype, tokens, heads, tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t c = 0; c < tokens; ++c) out.set(t, h, c, t == c ? 1 : 0);
    }
  }
  return out;
}

// The tensors of one case, and the problem that views them.
struct CaseInputs {
  CaseInputs(const GoldenCase& c, size_t index, DType dtype)
      : seed(100 * (index + 1)),
        q(golden_values(DType::f32, dtype, seed, c.tokens_q, c.heads_q, c.head_dim, c.bias != 0 ? 13.4 : 0)),
        k(golden_values(dtype, dtype, seed + 1, c.tokens_kv, c.heads_kv, c.head_dim, c.bias)),
        v(c.probabilities ? identity(dtype, c.tokens_kv, c.heads_kv)
                          : golden_values(dtype, dtype, seed + 2, c.tokens_kv, c.heads_kv, c.head_dim, 0)) {
    problem.q = q.view();
    problem.k = k.view();
    problem.v = v.view();
    problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim)));
    problem.causal = c.causal;
    problem.precision = all_in(dtype);
  }

  uint64_t seed;
  Tensor q, k, v;
  AttentionProblem problem;
};

std::vector<uint16_t> read_goldens() {
  std::ifstream file(std::string(FOVEA_SOURCE_DIR) + "/src/attention/attention_goldens.bin",
                     std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<uint16_t> out(bytes.size() / 2);
  for (size_t i = 0; i < out.size(); ++i) {
    const auto low = static_cast<unsigned char>(bytes[2 * i]),
               high = static_cast<unsigned char>(bytes[2 * i + 1]);
    out[i] = static_cast<uint16_t>(low | high << 8);
  }
  return out;
}

double share_outside(const std::vector<Interval>& bounds, const std::vector<float>& values) {
  size_t outside = 0;
  for (size_t i = 0; i < bounds.size(); ++i) outside += !bounds[i].holds(values[i]);
  return static_cast<double>(outside) / static_cast<double>(bounds.size());
}

double share_decided(const std::vector<Interval>& bounds) {
  const auto decided = std::count_if(bounds.begin(), bounds.end(), [](Interval b) { return b.decided(); });
  return static_cast<double>(decided) / static_cast<double>(bounds.size());
}

// Positive controls: what rounds elsewhere must be told from eager. At head_dim 64 (the cases of P) the scale
// is a power of two, so that there a single rounding of the score is as good as two: only outputs are asked.
void expect_others_outside(const GoldenCase& c, const AttentionProblem& problem,
                           const std::vector<Interval>& bounds, const std::string& where) {
  for (const AttentionKind kind : {AttentionKind::sdpa, AttentionKind::flash_attention_2}) {
    EXPECT_GT(share_outside(bounds, run(kind, problem)), 0.1) << name_of(kind) << ", " << where;
  }
  if (c.probabilities) return;
  const std::pair<const char*, DType AttentionPrecision::*> nodes[] = {
      {"scores", &AttentionPrecision::scores},
      {"scaled", &AttentionPrecision::scaled},
      {"probabilities", &AttentionPrecision::probabilities},
      {"output", &AttentionPrecision::output}};
  for (const auto& [name, node] : nodes) {
    AttentionProblem mutant = problem;
    mutant.precision.*node = DType::f32;
    EXPECT_GT(share_outside(bounds, run(AttentionKind::eager, mutant)), 0.01) << name << ", " << where;
  }
}

TEST(AttentionGolden, EagerHasTheBitsOfTransformers) {
  const std::vector<uint16_t> golden = read_goldens();
  size_t at = 0;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (size_t index = 0; index < std::size(kCases); ++index) {
      const std::string where = std::string(name_of(dtype)) + " case " + std::to_string(index);
      const GoldenCase& c = kCases[index];
      const CaseInputs inputs(c, index, dtype);
      const std::vector<Interval> bounds = EagerBounds(inputs.problem, dtype).outputs();
      ASSERT_LE(at + bounds.size(), golden.size()) << "attention_goldens.bin is missing or short";
      std::vector<float> theirs;
      for (size_t i = 0; i < bounds.size(); ++i) {
        const uint16_t bits = golden[at + i];
        theirs.push_back(dtype == DType::bf16 ? f32_from_bf16(bits) : f32_from_f16(bits));
      }
      at += bounds.size();
      EXPECT_EQ(share_outside(bounds, theirs), 0) << "the golden itself, " << where;
      EXPECT_EQ(share_outside(bounds, run(AttentionKind::eager, inputs.problem)), 0) << where;
      EXPECT_GT(share_decided(bounds), 0.02) << where;  // 0.04 in the worst case, 0.8 in the median one
      expect_others_outside(c, inputs.problem, bounds, where);
    }
  }
  EXPECT_EQ(at, golden.size());
}

// kernels() is chosen once per process: the test above again, in a process for each variant.
TEST(AttentionGolden, WithEveryKernelVariant) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const Kernels* variant : available_kernels()) {
    const std::string command = std::string("FOVEA_ISA=") + variant->name + " '" + program +
                                "' --gtest_filter=AttentionGolden.EagerHasTheBitsOfTransformers";
    EXPECT_EQ(std::system(command.c_str()), 0) << variant->name;
  }
}

}  // namespace
}  // namespace fovea
