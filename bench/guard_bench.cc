// guard_bench: what --guard costs flash_attention_2, the attention call alone (a layer's projections and MLP,
// 10 to 100 times as much work, pay nothing). The same call with and without the guard takes turns, and the
// processor time of one thread is compared, so that the share holds on a machine with other work.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <vector>

#include "attention/problem.h"
#include "base/parallel.h"

namespace fovea::bench {
namespace {

constexpr int kRepetitions = 15;

struct Case {
  const char* what;
  int64_t queries, keys, heads_q, heads_kv, head_dim, segment;  // segment 0: causal
};
constexpr Case kCases[] = {{"3B prefill, chunk 512 of 2048", 512, 2048, 16, 2, 128, 0},
                           {"3B prefill, first chunk", 512, 512, 16, 2, 128, 0},
                           {"3B decode at 2048", 1, 2048, 16, 2, 128, 0},
                           {"7B decode at 256", 1, 256, 28, 4, 128, 0},
                           {"vision, windows of 64", 2048, 2048, 16, 16, 80, 64},
                           {"vision, full", 2048, 2048, 16, 16, 80, 2048}};

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Data {
  explicit Data(const Case& c)
      : q(fill(c.queries * c.heads_q * c.head_dim)),
        k(fill(c.keys * c.heads_kv * c.head_dim)),
        v(fill(c.keys * c.heads_kv * c.head_dim)),
        out(q.size()),
        norms(static_cast<size_t>(c.keys * c.heads_kv)),
        heads(static_cast<size_t>(c.heads_q)) {
    for (int64_t at = 0; c.segment > 0 && at <= c.keys; at += c.segment) bounds.push_back(at);
    problem.q = {q.data(), DType::f32, c.queries, c.heads_q, c.head_dim, c.heads_q * c.head_dim};
    problem.k = {k.data(), DType::f32, c.keys, c.heads_kv, c.head_dim, c.heads_kv * c.head_dim};
    problem.v = problem.k;
    problem.v.data = v.data();
    problem.out = out.data();
    problem.scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
    problem.causal = c.segment == 0;
    problem.cu_seqlens = bounds;
    problem.precision = AttentionPrecision::of(AttentionKind::flash_attention_2, DType::bf16);
  }
  static std::vector<float> fill(int64_t count) {
    std::vector<float> x(static_cast<size_t>(count));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 2654435761u % 1000) / 500 - 1;
    return x;
  }

  // One call; the guard measures the keys that are new, as the model does.
  double seconds(bool guarded) {
    const AttentionGuard guard{{GuardMode::warn, 0.125f}, heads.data(), norms.data()};
    problem.guard = guarded ? &guard : nullptr;
    const double start = processor_seconds();
    const int repeat = problem.q.tokens == 1 ? 64 : 1;
    for (int i = 0; i < repeat; ++i) {
      if (guarded) {
        HeadsView fresh = problem.k;
        fresh.tokens = problem.q.tokens;
        key_norms(fresh, norms.data());
      }
      attend(AttentionKind::flash_attention_2, problem);
    }
    return (processor_seconds() - start) / repeat;
  }

  std::vector<float> q, k, v, out, norms;
  std::vector<HeadGuard> heads;
  std::vector<int64_t> bounds;
  AttentionProblem problem;
};

void measure(const Case& c) {
  Data data(c);
  std::vector<double> plain, guarded;
  for (int i = 0; i < kRepetitions; ++i) {
    plain.push_back(data.seconds(false));
    guarded.push_back(data.seconds(true));
  }
  const double before = *std::min_element(plain.begin(), plain.end()),
               after = *std::min_element(guarded.begin(), guarded.end());
  fmt::print("{:<32}{:>10.1f} us{:>10.1f} us{:>8.2f} %\n", c.what, before * 1e6, after * 1e6,
             (after / before - 1) * 100);
}

}  // namespace
}  // namespace fovea::bench

int main() {
  fovea::set_threads(1);
  fmt::print("{:<32}{:>13}{:>13}{:>10}\n", "flash_attention_2, bf16", "off", "warn", "cost");
  for (const auto& c : fovea::bench::kCases) fovea::bench::measure(c);
}
