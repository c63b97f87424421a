#include <algorithm>
#include <vector>

#include "attention/implementations.h"
#include "attention/problem.h"
#include "base/error.h"

namespace fovea {

void check_problem(const AttentionProblem& problem) {
  const HeadsView &q = problem.q, &k = problem.k, &v = problem.v;
  FOVEA_CHECK(q.dtype == DType::f32);
  FOVEA_CHECK(q.tokens >= 0 && k.tokens >= 0 && k.tokens == v.tokens);
  FOVEA_CHECK(q.head_dim > 0 && q.head_dim == k.head_dim && q.head_dim == v.head_dim);
  FOVEA_CHECK(k.heads > 0 && k.heads == v.heads && q.heads > 0 && q.heads % k.heads == 0);
  // The dtype's storage of one token never overlaps the next (one token has no next).
  for (const HeadsView* view : {&q, &k, &v}) {
    const bool paged = view->pages.table != nullptr;
    FOVEA_CHECK(view->tokens == 0 || view->present());
    FOVEA_CHECK(!paged || (view->stride == view->head_dim && problem.cu_seqlens.empty()));
    FOVEA_CHECK(paged || view->tokens <= 1 || view->stride >= view->heads * view->head_dim);
    FOVEA_CHECK(paged || view->tokens == 0 || view->dtype != DType::i8 || view->scales != nullptr);
  }
  FOVEA_CHECK(problem.scale > 0);
  const KeyBias& bias = problem.key_bias;
  FOVEA_CHECK(!bias.present() || k.head_dim % 2 == 0);
  FOVEA_CHECK(!bias.present() || bias.table != nullptr || (bias.cos != nullptr && bias.sin != nullptr));
  const auto& bounds = problem.cu_seqlens;
  if (bounds.empty()) return;
  FOVEA_CHECK(!problem.causal && q.tokens == k.tokens);
  FOVEA_CHECK(bounds.front() == 0 && bounds.back() == q.tokens);
  for (size_t i = 1; i < bounds.size(); ++i) FOVEA_CHECK(bounds[i - 1] <= bounds[i]);
}

namespace {

// The f64 result, rounded once.
void reference_rounded(const AttentionProblem& problem) {
  const int64_t count = problem.q.tokens * problem.q.heads * problem.q.head_dim;
  std::vector<double> out(static_cast<size_t>(count));
  reference_attention(problem, out.data());
  for (int64_t i = 0; i < count; ++i) {
    problem.out[i] = rounded(static_cast<float>(out[static_cast<size_t>(i)]), problem.precision.output);
  }
}

}  // namespace

void attend(AttentionKind kind, const AttentionProblem& problem) {
  if (problem.guard != nullptr && kind != AttentionKind::eager) guard_by_bound(problem);
  switch (kind) {
    case AttentionKind::eager:
      return eager_attention(problem);
    case AttentionKind::sdpa:
      return sdpa_attention(problem);
    case AttentionKind::flash_attention_2:
      return flash_attention_2(problem);
    case AttentionKind::reference:
      return reference_rounded(problem);
  }
}

// Only flash_attention_2 joins the work of several problems. The others take them one by one: each has enough
// work of its own for all threads, or is not chosen for its speed.
void attend(AttentionKind kind, std::span<const AttentionProblem> problems) {
  if (kind != AttentionKind::flash_attention_2 || problems.size() == 1) {
    for (const AttentionProblem& problem : problems) attend(kind, problem);
    return;
  }
  for (const AttentionProblem& problem : problems) {
    if (problem.guard != nullptr) guard_by_bound(problem);
  }
  flash_attention_2(problems);
}

int64_t attention_scratch_bytes(AttentionKind kind, std::span<const AttentionProblem> problems) {
  if (kind == AttentionKind::flash_attention_2) return flash_scratch_bytes(problems);
  int64_t most = 0;
  for (const AttentionProblem& problem : problems)
    most = std::max(most, attention_scratch_bytes(kind, problem));
  return most;
}

int64_t attention_scratch_bytes(AttentionKind kind, const AttentionProblem& problem) {
  switch (kind) {
    case AttentionKind::eager:
      return eager_scratch_bytes(problem);
    case AttentionKind::sdpa:
      return sdpa_scratch_bytes(problem);
    case AttentionKind::flash_attention_2:
      return flash_scratch_bytes({&problem, 1});
    case AttentionKind::reference:  // the result, and one row of weights per worker
      return (problem.q.tokens * problem.q.heads * problem.q.head_dim +
              problem.context.threads() * problem.k.tokens) *
             int64_t{sizeof(double)};
  }
  return 0;
}

}  // namespace fovea
