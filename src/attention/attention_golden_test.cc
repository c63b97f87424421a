// Goal: eager in bf16 and fp16 rounds exactly where transformers' eager rounds.
// Method: bit comparison with attention_goldens.bin (tools/make_attention_goldens.py); the normalised P is
// seen through V = identity. Bits may differ only where f32 sums of a different order fall on two sides of a
// rounding boundary: their relative difference is near 2^-22 (an output, which cancels, is worse) against a
// spacing of 2^-7 or 2^-10, and one flipped score of 16 bits moves its whole row. sdpa and flash are the
// negative control.
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "attention/attention_testing.h"

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

std::vector<float> run_case(const GoldenCase& c, size_t index, DType dtype, AttentionKind kind) {
  const uint64_t seed = 100 * (index + 1);
  const Tensor q =
      golden_values(DType::f32, dtype, seed, c.tokens_q, c.heads_q, c.head_dim, c.bias != 0 ? 13.4 : 0);
  const Tensor k = golden_values(dtype, dtype, seed + 1, c.tokens_kv, c.heads_kv, c.head_dim, c.bias);
  const Tensor v = c.probabilities
                       ? identity(dtype, c.tokens_kv, c.heads_kv)
                       : golden_values(dtype, dtype, seed + 2, c.tokens_kv, c.heads_kv, c.head_dim, 0);
  AttentionProblem problem;
  problem.q = q.view();
  problem.k = k.view();
  problem.v = v.view();
  problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim)));
  problem.causal = c.causal;
  problem.precision = all_in(dtype);
  return run(kind, problem);
}

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

struct Agreement {
  double equal_share, worst;  // worst: largest difference in units of the row's largest value
};

Agreement compare(const std::vector<float>& out, const std::vector<uint16_t>& golden, size_t at,
                  int64_t columns, DType dtype) {
  Agreement result{0, 0};
  const auto width = static_cast<size_t>(columns);
  for (size_t row = 0; row < out.size(); row += width) {
    double largest = 0, difference = 0;
    for (size_t i = row; i < row + width; ++i) {
      const uint16_t bits = golden[at + i];
      const double theirs = dtype == DType::bf16 ? f32_from_bf16(bits) : f32_from_f16(bits);
      result.equal_share += (dtype == DType::bf16 ? bf16_from_f32(out[i]) : f16_from_f32(out[i])) == bits;
      largest = std::max(largest, std::abs(theirs));
      difference = std::max(difference, std::abs(theirs - out[i]));
    }
    result.worst = std::max(result.worst, difference / largest);
  }
  result.equal_share /= static_cast<double>(out.size());
  return result;
}

TEST(AttentionGolden, EagerHasTheBitsOfTransformers) {
  const std::vector<uint16_t> golden = read_goldens();
  size_t at = 0;
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (size_t index = 0; index < std::size(kCases); ++index) {
      const GoldenCase& c = kCases[index];
      const int64_t columns = c.probabilities ? c.tokens_kv : c.head_dim;
      const std::vector<float> out = run_case(c, index, dtype, AttentionKind::eager);
      ASSERT_LE(at + out.size(), golden.size()) << "attention_goldens.bin is missing or short";
      const Agreement eager = compare(out, golden, at, columns, dtype);
      const std::string where = std::string(name_of(dtype)) + " case " + std::to_string(index);
      EXPECT_GE(eager.equal_share, c.probabilities ? 0.999 : 0.995) << where;
      EXPECT_LE(eager.worst, epsilon_of(dtype)) << where;
      for (const AttentionKind kind : {AttentionKind::sdpa, AttentionKind::flash_attention_2}) {
        if (c.bias == 0) continue;
        const Agreement fused = compare(run_case(c, index, dtype, kind), golden, at, columns, dtype);
        EXPECT_GT(fused.worst, 10 * epsilon_of(dtype)) << name_of(kind) << " must differ, " << where;
      }
      at += out.size();
    }
  }
  EXPECT_EQ(at, golden.size());
}

}  // namespace
}  // namespace fovea
