#include "attention/attention_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention/query_tiles.h"
#include "attention/rows.h"
#include "base/parallel.h"

namespace fovea {

namespace {

double dot(const float* a, const float* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

// The weights of the query heads that share a kv head, which reads its keys once for all of them.
void weigh_group(const AttentionProblem& problem, int64_t query, int64_t kv_head, int64_t keys, float* out) {
  const int64_t group = problem.q.heads / problem.k.heads, d = problem.q.head_dim, all = problem.k.tokens;
  const auto* q = static_cast<const float*>(problem.q.at(query, kv_head * group));
  std::vector<float> tile(static_cast<size_t>(kKeyTile * d));
  std::vector<double> scores(static_cast<size_t>(group * keys));
  for (int64_t first = 0; first < keys; first += kKeyTile) {
    const int64_t count = std::min(kKeyTile, keys - first);
    pack_keys(problem, kv_head, 1, first, count, tile.data());
    for (int64_t g = 0; g < group; ++g) {
      for (int64_t j = 0; j < count; ++j) {
        scores[static_cast<size_t>(g * keys + first + j)] =
            dot(q + g * d, tile.data() + j * d, d) * double{problem.scale};
      }
    }
  }
  for (int64_t g = 0; g < group; ++g) {
    const auto row = scores.begin() + g * keys;
    const double highest = *std::max_element(row, row + keys);
    double sum = 0;
    for (auto score = row; score != row + keys; ++score) sum += * score = std::exp(*score - highest);
    float* to = out + g * all;
    std::transform(row, row + keys, to, [sum](double weight) { return static_cast<float>(weight / sum); });
    std::fill(to + keys, to + all, 0.f);
  }
}

}  // namespace

void attention_weights(const AttentionProblem& problem, int64_t query, std::span<float> out) {
  FOVEA_CHECK(problem.cu_seqlens.empty() && query >= 0 && query < problem.q.tokens);
  FOVEA_CHECK(std::ssize(out) == problem.q.heads * problem.k.tokens && problem.q.dtype == DType::f32);
  const int64_t keys = problem.causal ? query + problem.k.tokens - problem.q.tokens + 1 : problem.k.tokens;
  const int64_t group = problem.q.heads / problem.k.heads;
  parallel_for(problem.k.heads, [&](int64_t kv_head) {
    weigh_group(problem, query, kv_head, keys, out.data() + kv_head * group * problem.k.tokens);
  });
}

}  // namespace fovea
