#include "attention/guard.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>

#include "attention/problem.h"
#include "attention/rows.h"
#include "base/error.h"

namespace fovea {
namespace {

// Eight partial sums, which compilers vectorise.
float norm_of(const float* x, int64_t count) {
  float partial[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t l = 0; l < 8; ++l) partial[l] += x[i + l] * x[i + l];
  }
  for (; i < count; ++i) partial[0] += x[i] * x[i];
  float sum = 0;
  for (const float part : partial) sum += part;
  return std::sqrt(sum);
}

// Unit roundoff of the 16-bit type that stored scores would have.
double roundoff_of(DType output) { return epsilon_of(output == DType::f16 ? DType::f16 : DType::bf16) / 2; }

}  // namespace

const char* name_of(GuardMode mode) {
  switch (mode) {
    case GuardMode::off:
      return "off";
    case GuardMode::warn:
      return "warn";
    case GuardMode::escalate:
      return "escalate";
  }
  return "?";
}

GuardMode parse_guard(std::string_view name) {
  for (const GuardMode mode : {GuardMode::off, GuardMode::warn, GuardMode::escalate}) {
    if (name == name_of(mode)) return mode;
  }
  throw Error(ErrorKind::invalid_argument, "unknown guard '" + std::string(name) + "'",
              "use off, warn or escalate");
}

void HeadGuard::add(const HeadGuard& other) {
  rows += other.rows;
  at_risk += other.at_risk;
  overflows += other.overflows;
  recomputed += other.recomputed;
  would_be_at_risk += other.would_be_at_risk;
  largest = std::max(largest, other.largest);
}

void add_shared(HeadGuard& to, const HeadGuard& from) {
  const auto add = [](int64_t& sum, int64_t part) { std::atomic_ref<int64_t>(sum) += part; };
  add(to.rows, from.rows);
  add(to.at_risk, from.at_risk);
  add(to.overflows, from.overflows);
  add(to.recomputed, from.recomputed);
  add(to.would_be_at_risk, from.would_be_at_risk);
  std::atomic_ref<float> largest(to.largest);
  float seen = largest.load();
  while (from.largest > seen && !largest.compare_exchange_weak(seen, from.largest)) {
  }
}

void key_norms(const Context& context, const HeadsView& k, float* out) {
  context.parallel_for(divide_up(k.tokens, kKeyTile), [&](int64_t piece) {
    const int64_t first = piece * kKeyTile, count = std::min(kKeyTile, k.tokens - first);
    std::vector<float> rows(static_cast<size_t>(count * k.head_dim));
    for (int64_t h = 0; h < k.heads; ++h) {
      pack_rows(*context.kernels, k, h, 1, first, count, rows.data());
      for (int64_t t = 0; t < count; ++t) {
        out[(first + t) * k.heads + h] = norm_of(rows.data() + t * k.head_dim, k.head_dim);
      }
    }
  });
}

void guard_by_bound(const AttentionProblem& problem) {
  const AttentionGuard& guard = *problem.guard;
  FOVEA_CHECK(guard.key_norms != nullptr);
  const int64_t heads = problem.q.heads, group = heads / problem.k.heads, tokens = problem.q.tokens;
  const double limit = double{guard.options.tau} / roundoff_of(problem.precision.output);
  constexpr int64_t kTokens = 64;
  problem.context.parallel_for(divide_up(tokens, kTokens), [&](int64_t piece) {
    std::vector<HeadGuard> seen(static_cast<size_t>(heads));
    for (int64_t t = piece * kTokens; t < std::min(tokens, (piece + 1) * kTokens); ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        HeadGuard& head = seen[static_cast<size_t>(h)];
        const float raw = norm_of(static_cast<const float*>(problem.q.at(t, h)), problem.q.head_dim) *
                          guard.key_norms[t * problem.k.heads + h / group];
        const float scaled = raw * problem.scale;
        ++head.rows;
        head.would_be_at_risk += double{scaled} > limit ? 1 : 0;
        head.overflows += raw > 65504.f ? 1 : 0;
        head.largest = std::max(head.largest, scaled);
      }
    }
    for (int64_t h = 0; h < heads; ++h) add_shared(guard.heads[h], seen[static_cast<size_t>(h)]);
  });
}

}  // namespace fovea
