#include "attention/attention_weights.h"

#include <gtest/gtest.h>

#include "attention/attention_testing.h"

namespace fovea {
namespace {

using namespace attention_testing;

const Shape kShapes[] = {
    {1, 700, 8, 2, 64, DType::bf16, true},
    {5, 130, 4, 4, 32, DType::f32, true},
    {9, 9, 6, 2, 128, DType::f16, true},
    {3, 65, 4, 1, 16, DType::bf16, false},
};

// The weights are those that the reference weighs V with: their sums of V are its output. Each weight is
// rounded once to f32, so the sum over keys differs by at most 2^-24 times the sum of w |v|, and no |v| is
// above `largest`.
TEST(AttentionWeights, WeighTheValuesAsTheReferenceDoes) {
  for (const Shape& shape : kShapes) {
    const Inputs inputs(shape, 7);
    const AttentionProblem problem = inputs.problem(all_in(DType::f32));
    const std::vector<double> expected = run_reference(problem);
    std::vector<float> weights(static_cast<size_t>(shape.heads_q * shape.tokens_kv));
    for (int64_t query = 0; query < shape.tokens_q; ++query) {
      attention_weights(problem, query, weights);
      for (int64_t head = 0; head < shape.heads_q; ++head) {
        const float* row = weights.data() + head * shape.tokens_kv;
        const int64_t kv_head = head / (shape.heads_q / shape.heads_kv);
        double sum = 0;
        for (int64_t j = 0; j < shape.tokens_kv; ++j) sum += double{row[j]};
        EXPECT_NEAR(sum, 1, 0x1p-24);
        for (int64_t c = 0; c < shape.head_dim; ++c) {
          double value = 0, largest = 0;
          for (int64_t j = 0; j < shape.tokens_kv; ++j) {
            const auto v = static_cast<const char*>(problem.v.at(j, kv_head));
            const double wide = shape.kv == DType::f32 ? double{reinterpret_cast<const float*>(v)[c]}
                                : shape.kv == DType::bf16
                                    ? double{f32_from_bf16(reinterpret_cast<const uint16_t*>(v)[c])}
                                    : double{f32_from_f16(reinterpret_cast<const uint16_t*>(v)[c])};
            value += double{row[j]} * wide;
            largest = std::max(largest, std::abs(wide));
          }
          const auto at = static_cast<size_t>((query * shape.heads_q + head) * shape.head_dim + c);
          EXPECT_NEAR(value, expected[at], 0x1p-24 * largest) << "query " << query << " head " << head;
        }
      }
    }
  }
}

TEST(AttentionWeights, NothingGoesToKeysThatComeLater) {
  const Shape shape{4, 10, 2, 1, 16, DType::f32, true};
  const Inputs inputs(shape, 1);
  std::vector<float> weights(20);
  for (int64_t query = 0; query < 4; ++query) {
    attention_weights(inputs.problem(all_in(DType::f32)), query, weights);
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t j = 0; j < 10; ++j)
        EXPECT_EQ(weights[static_cast<size_t>(head * 10 + j)] > 0, j <= query + 6);
    }
  }
}

}  // namespace
}  // namespace fovea
