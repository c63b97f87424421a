#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "attention/implementations.h"
#include "attention/problem.h"
#include "attention/query_tiles.h"
#include "attention/rows.h"

namespace fovea {
namespace {

// One query row of one query head over keys [first, first + keys).
void attend_row(const AttentionProblem& problem, int64_t query, int64_t head, int64_t first, int64_t keys,
                double* out) {
  const int64_t kv_head = head / (problem.q.heads / problem.k.heads), d = problem.q.head_dim;
  std::vector<double> weights(static_cast<size_t>(keys));
  double highest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t j = 0; j < keys; ++j) {
    double score = 0;
    for (int64_t c = 0; c < d; ++c) {
      score += value_at(problem.q, query, head, c) * key_at(problem, first + j, kv_head, c);
    }
    weights[static_cast<size_t>(j)] = score * double{problem.scale};
    highest = std::max(highest, weights[static_cast<size_t>(j)]);
  }
  std::fill_n(out, d, 0.0);
  for (double& weight : weights) sum += weight = std::exp(weight - highest);
  for (int64_t j = 0; j < keys; ++j) {
    const double weight = weights[static_cast<size_t>(j)] / sum;
    for (int64_t c = 0; c < d; ++c) out[c] += weight * value_at(problem.v, first + j, kv_head, c);
  }
}

}  // namespace

void reference_attention(const AttentionProblem& problem, double* out64) {
  check_problem(problem);
  const QueryTiles tiles(problem, 1);
  const int64_t group = tiles.group(), d = problem.q.head_dim;
  problem.context.parallel_for(tiles.count(), [&](int64_t index) {
    const QueryTile tile = tiles[index];
    for (int64_t head = tile.kv_head * group; head < (tile.kv_head + 1) * group; ++head) {
      double* out = out64 + (tile.first_query * problem.q.heads + head) * d;
      attend_row(problem, tile.first_query, head, tile.first_key, tile.keys, out);
    }
  });
}

}  // namespace fovea
