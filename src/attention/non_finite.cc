// Where a non-finite attention output began: runs after a failure only.
#include <algorithm>
#include <cmath>

#include "attention/implementations.h"
#include "attention/query_tiles.h"
#include "attention/rows.h"

namespace fovea {
namespace {

bool finite_row(const HeadsView& view, int64_t token, int64_t head) {
  for (int64_t c = 0; c < view.head_dim; ++c) {
    if (!std::isfinite(value_at(view, token, head, c))) return false;
  }
  return true;
}

// The first failing node of one key's score, or nullptr.
const char* score_node(const AttentionProblem& problem, int64_t query, int64_t head, int64_t key) {
  const AttentionPrecision& nodes = problem.precision;
  const int64_t d = problem.q.head_dim, kv_head = head / (problem.q.heads / problem.k.heads);
  const double scale = double{problem.scale};
  const bool split = nodes.scale == ScalePlacement::split;
  const double q_scale = split ? std::sqrt(scale) : nodes.scale == ScalePlacement::before ? scale : 1;
  double product = 0;
  for (int64_t c = 0; c < d; ++c) {
    const auto q = static_cast<float>(value_at(problem.q, query, head, c) * q_scale);
    const auto k = static_cast<float>(key_at(problem, key, kv_head, c) * (split ? q_scale : 1));
    product +=
        double{q_scale == 1 ? q : rounded(q, nodes.scaled)} * double{split ? rounded(k, nodes.scaled) : k};
  }
  const bool fused = nodes.scale == ScalePlacement::fused;
  if (fused) product *= scale;
  if (nodes.score_shift == ScoreShift::row_max) return nullptr;  // no score is beyond its row's maximum
  const float score = rounded(static_cast<float>(product), fused ? nodes.scaled : nodes.scores);
  if (std::isnan(score) || (std::isinf(score) && !nodes.inf_to_zero)) return fused ? "scaled" : "scores";
  if (q_scale != 1 || fused) return nullptr;
  const float scaled = rounded(static_cast<float>(double{score} * scale), nodes.scaled);
  return std::isfinite(scaled) || nodes.inf_to_zero ? nullptr : "scaled";
}

}  // namespace

std::string non_finite_node(AttentionKind kind, const AttentionProblem& problem) {
  check_problem(problem);
  const int64_t width = problem.q.heads * problem.q.head_dim, count = problem.q.tokens * width;
  const float* found =
      std::find_if(problem.out, problem.out + count, [](float x) { return !std::isfinite(x); });
  if (found == problem.out + count) return "";
  const int64_t query = (found - problem.out) / width,
                head = (found - problem.out) % width / problem.q.head_dim;
  int64_t first = 0, end = causal_keys(problem, query);
  for (size_t s = 1; s < problem.cu_seqlens.size(); ++s) {
    if (problem.cu_seqlens[s - 1] <= query && query < problem.cu_seqlens[s]) {
      first = problem.cu_seqlens[s - 1];
      end = problem.cu_seqlens[s];
    }
  }
  const int64_t kv_head = head / (problem.q.heads / problem.k.heads);
  if (!finite_row(problem.q, query, head)) return "q";
  for (int64_t key = first; key < end; ++key) {
    if (!finite_row(problem.k, key, kv_head)) return "k";
    if (!finite_row(problem.v, key, kv_head)) return "v";
  }
  for (int64_t key = first; kind != AttentionKind::reference && key < end; ++key) {
    if (const char* node = score_node(problem, query, head, key)) return node;
  }
  return problem.precision.pv == DType::f16 ? "pv" : "output";
}

}  // namespace fovea
