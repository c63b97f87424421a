#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "attention/problem.h"
#include "base/splitmix64.h"
#include "bench/parts.h"

namespace fovea::bench {

namespace {

enum class Mask { causal, windows, full };

struct Shape {
  std::string name;
  AttentionKind kind;
  int64_t queries, keys, heads_q, heads_kv, head_dim;
  Mask mask = Mask::causal;
};

constexpr int64_t kWindow = 64;  // patches of a vision window

// Q, K, V between -1 and 1 and the problem that borrows them.
struct Data {
  // `scratch` serves all calls, as in a model.
  Data(const Shape& s, Buffer<float>& scratch)
      : q(values(s.queries * s.heads_q * s.head_dim, 1)),
        k16(narrow(values(s.keys * s.heads_kv * s.head_dim, 2))),
        v16(narrow(values(s.keys * s.heads_kv * s.head_dim, 3))),
        out(q.size()) {
    problem.q = {q.data(), DType::f32, s.queries, s.heads_q, s.head_dim, s.heads_q * s.head_dim, DType::bf16};
    problem.k = {k16.data(), DType::bf16, s.keys, s.heads_kv, s.head_dim, s.heads_kv * s.head_dim};
    problem.v = problem.k;
    problem.v.data = v16.data();
    if (s.mask == Mask::causal) {  // as the KV cache holds them
      FOVEA_CHECK(s.keys % kPageTokens == 0);
      in_pages(problem.k, k16, k_pages);
      in_pages(problem.v, v16, v_pages);
    }
    problem.out = out.data();
    problem.scratch = &scratch;
    problem.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
    problem.causal = s.mask == Mask::causal;
    if (s.mask == Mask::windows) {
      for (int64_t at = 0; at < s.keys; at += kWindow) bounds.push_back(at);
      bounds.push_back(s.keys);
      problem.cu_seqlens = bounds;
    }
    problem.precision = AttentionPrecision::of(s.kind, DType::bf16);
  }
  static void in_pages(HeadsView& view, const Buffer<uint16_t>& x, std::vector<const char*>& pages) {
    const int64_t page = kPageTokens * view.heads * view.head_dim;
    for (int64_t at = 0; at < x.size(); at += page) {
      pages.push_back(reinterpret_cast<const char*>(x.data() + at));
    }
    view.data = nullptr;
    view.stride = view.head_dim;
    view.pages = {pages.data(), 0, 0};
  }
  static std::vector<float> values(int64_t count, uint64_t seed) {
    std::vector<float> x(static_cast<size_t>(count));
    SplitMix64 random(seed);
    for (float& value : x) {
      value =
          rounded(static_cast<float>(static_cast<double>(random.bits() >> 40) * 0x1p-23 - 1), DType::bf16);
    }
    return x;
  }
  static Buffer<uint16_t> narrow(const std::vector<float>& x) {
    Buffer<uint16_t> out(std::ssize(x));
    for (int64_t i = 0; i < out.size(); ++i) out[i] = bf16_from_f32(x[static_cast<size_t>(i)]);
    return out;
  }

  std::vector<float> q;
  Buffer<uint16_t> k16, v16;
  std::vector<const char*> k_pages, v_pages;
  std::vector<float> out;
  std::vector<int64_t> bounds;
  AttentionProblem problem;
};

// The last query against exact attention. Probabilities and output are each rounded to bf16, by at most 2^-9
// of values that are at most 1; eager rounds its scores, at most head_dim^0.5 large here, by 2^-9 of that,
// twice, and an error e of a score changes the output by at most 2e.
void check(const Shape& s, const Data& data) {
  const int64_t width = s.heads_q * s.head_dim;
  AttentionProblem last = data.problem;
  last.q.data = data.q.data() + (s.queries - 1) * width;
  last.q.tokens = 1;
  if (s.mask == Mask::windows) {
    const int64_t first = (s.keys - 1) / kWindow * kWindow;
    last.k.data = data.k16.data() + first * s.heads_kv * s.head_dim;
    last.v.data = data.v16.data() + first * s.heads_kv * s.head_dim;
    last.k.tokens = last.v.tokens = s.keys - first;
    last.cu_seqlens = {};
  }
  std::vector<double> exact(static_cast<size_t>(width));
  reference_attention(last, exact.data());
  const double rounding = 0x1p-9, score = s.kind == AttentionKind::eager
                                              ? 2 * std::sqrt(static_cast<double>(s.head_dim)) * rounding
                                              : 0;
  const double limit = 2 * rounding + 2 * score + 1e-5;
  for (int64_t i = 0; i < width; ++i) {
    const double error =
        std::fabs(data.out[static_cast<size_t>((s.queries - 1) * width + i)] - exact[static_cast<size_t>(i)]);
    if (error <= limit) continue;
    throw Error(ErrorKind::numeric,
                fmt::format("{} is wrong by {:.2g} where {:.2g} is allowed", s.name, error, limit),
                "report this with the output of fovea inspect and lscpu");
  }
}

// Scores that are not masked.
double pairs_of(const Shape& s) {
  const auto queries = static_cast<double>(s.queries), keys = static_cast<double>(s.keys);
  if (s.mask == Mask::windows) return keys * kWindow;
  return s.mask == Mask::full ? queries * keys : queries * (keys - queries) + queries * (queries + 1) / 2;
}

Work tokens_work(const Shape& s) {
  const auto scratch = std::make_shared<Buffer<float>>();
  const auto data = std::make_shared<Data>(s, *scratch);
  const auto call = [s, scratch, data] { attend(s.kind, data->problem); };
  call();
  check(s, *data);
  const double amount = 4 * pairs_of(s) * static_cast<double>(s.heads_q * s.head_dim);
  constexpr double kEnough = 2e10;  // operations of a repetition: 20 ms or more
  return {.name = s.name,
          .bound = Bound::bf16,
          .amount = amount,
          .unit = "GFLOP/s",
          .call = call,
          .calls = std::max(int64_t{1}, static_cast<int64_t>(kEnough / amount))};
}

// A single query reads K and V once for its group of heads: that is what bounds it. Its calls take the caches
// of different layers in turn, together more than any cache of the CPU holds.
Work decode_work(const Shape& s) {
  const int64_t bytes = 4 * s.keys * s.heads_kv * s.head_dim,
                layers = std::max(int64_t{4}, (1 << 28) / bytes);
  const auto scratch = std::make_shared<Buffer<float>>();
  const auto data = std::make_shared<std::deque<Data>>();
  for (int64_t l = 0; l < layers; ++l) {
    attend(s.kind, data->emplace_back(s, *scratch).problem);
    if (l == 0) check(s, data->front());
  }
  return {.name = s.name,
          .bound = Bound::read,
          .amount = static_cast<double>(bytes),
          .unit = "GB/s",
          .call =
              [s, scratch, data, next = size_t{0}]() mutable {
                attend(s.kind, (*data)[next].problem);
                next = (next + 1) % data->size();
              },
          .calls = layers};
}

Part part(const Shape& s) {
  return {s.name, [s] { return s.queries == 1 ? decode_work(s) : tokens_work(s); }};
}

}  // namespace

std::vector<Part> attention_parts() {
  constexpr AttentionKind kFlash = AttentionKind::flash_attention_2;
  std::vector<Part> parts;
  for (const int64_t n : {256, 512, 2048, 8192, 32768}) {
    parts.push_back(part({fmt::format("attention.causal.{}", n), kFlash, n, n, 16, 2, 128}));
  }
  parts.push_back(part({"attention.sdpa.2048", AttentionKind::sdpa, 2048, 2048, 16, 2, 128}));
  parts.push_back(part({"attention.eager.2048", AttentionKind::eager, 2048, 2048, 16, 2, 128}));
  for (const int64_t n : {2048, 8192, 32768}) {
    parts.push_back(part({fmt::format("attention.chunk.{}", n), kFlash, 512, n, 16, 2, 128}));
  }
  for (const int64_t n : {512, 2048, 8192, 32768}) {
    parts.push_back(part({fmt::format("attention.decode.{}", n), kFlash, 1, n, 16, 2, 128}));
  }
  parts.push_back(part({"attention.vision.window", kFlash, 9216, 9216, 16, 16, 80, Mask::windows}));
  parts.push_back(part({"attention.vision.full", kFlash, 9216, 9216, 16, 16, 80, Mask::full}));
  return parts;
}

}  // namespace fovea::bench
