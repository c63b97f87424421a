// What every attention implementation is given: borrowed views, segments and dtypes. RoPE, projections and
// cache writes happen before; the implementations are interchangeable functions of one Problem.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "attention/guard.h"
#include "base/buffer.h"
#include "base/precision.h"
#include "kernels/context.h"

namespace fovea {

// Tokens that lie in pages of kPageTokens. A page holds, for each head in turn, the rows of its tokens,
// head_dim elements each, and likewise their scales in int8.
inline constexpr int64_t kPageTokens = 64;
struct Pages {
  const char* const* table = nullptr;  // token t is in page table[t / kPageTokens]; null: not in pages
  int64_t rows = 0, scales = 0;        // where those of the first head begin in a page, in bytes
};

// `heads * head_dim` columns per token; `stride` elements from one token to the next, in pages: within one.
struct HeadsView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t tokens = 0, heads = 0, head_dim = 0, stride = 0;
  DType values = DType::f32;  // of f32 data: the narrowest type known to hold every value
  // Of int8 data: [tokens, scale_stride], a value is its integer times its row's scale.
  const float* scales = nullptr;
  int64_t scale_stride = 0;
  Pages pages = {};  // in place of data and scales

  bool present() const { return data != nullptr || pages.table != nullptr; }
  // The row of a token; those behind it follow at `stride`, in pages up to the end of its page.
  const void* at(int64_t token, int64_t head) const {
    const auto size = static_cast<int64_t>(bytes_of(dtype));
    if (pages.table == nullptr) {
      return static_cast<const char*>(data) + (token * stride + head * head_dim) * size;
    }
    return pages.table[token / kPageTokens] + pages.rows + in_page(token, head) * head_dim * size;
  }
  float scale_at(int64_t token, int64_t head) const {
    if (pages.table == nullptr) return scales[token * scale_stride + head];
    const char* page = pages.table[token / kPageTokens] + pages.scales;
    return reinterpret_cast<const float*>(page)[in_page(token, head)];
  }
  // Only `count` heads from `first` on.
  HeadsView of_heads(int64_t first, int64_t count) const {
    HeadsView view = *this;
    const int64_t skipped = first * head_dim * static_cast<int64_t>(bytes_of(dtype));
    view.heads = count;
    if (pages.table == nullptr) {
      view.data = static_cast<const char*>(data) + skipped;
      if (scales != nullptr) view.scales += first;
    } else {
      view.pages.rows += kPageTokens * skipped;
      view.pages.scales += kPageTokens * first * int64_t{sizeof(float)};
    }
    return view;
  }

 private:
  static int64_t in_page(int64_t token, int64_t head) { return head * kPageTokens + token % kPageTokens; }
};

// The bias split: `k` holds keys without the bias of their projection, and the key of token j is k_j + R_j b,
// where R_j rotates pair (i, i + head_dim / 2) by the angle whose cos and sin are in row j. Never rounded:
// sdpa and flash_attention_2 add it to the f32 tile of keys, eager adds q.R_j b, less its row maximum, to the
// score.
struct KeyBias {
  const float* bias = nullptr;                 // [heads_kv, head_dim]; null: keys are whole
  const float *cos = nullptr, *sin = nullptr;  // [tokens_kv, head_dim / 2]
  // In their place: pages of kPageTokens rows each, which begin so many bytes behind the page's beginning.
  const char* const* table = nullptr;
  int64_t cos_rows = 0, sin_rows = 0;

  bool present() const { return bias != nullptr; }
  const float* cos_of(int64_t token, int64_t pairs) const { return row(cos, cos_rows, token, pairs); }
  const float* sin_of(int64_t token, int64_t pairs) const { return row(sin, sin_rows, token, pairs); }

 private:
  const float* row(const float* dense, int64_t rows, int64_t token, int64_t pairs) const {
    if (table == nullptr) return dense + token * pairs;
    const char* page = table[token / kPageTokens] + rows;
    return reinterpret_cast<const float*>(page) + token % kPageTokens * pairs;
  }
};

struct AttentionProblem {
  HeadsView q;     // f32 container, values already rounded; [tokens_q, heads_q, head_dim]
  HeadsView k, v;  // f32, bf16, f16 or int8; [tokens_kv, heads_kv, head_dim]; query head h reads kv head h /
                   // (heads_q / heads_kv)
  float* out = nullptr;  // [tokens_q, heads_q * head_dim], contiguous, rounded to precision.output
  float scale = 0;       // head_dim^-0.5
  // causal: query i attends to keys 0 .. i + (tokens_kv - tokens_q).
  bool causal = false;
  // Not causal: boundaries of independent segments, cu_seqlens[0] = 0 ... back() = tokens; empty means one
  // segment. Requires tokens_q == tokens_kv when there are segments.
  std::span<const int64_t> cu_seqlens;
  AttentionPrecision precision;
  KeyBias key_bias;
  const AttentionGuard* guard = nullptr;  // null: nothing is counted
  Context context = process_context();
  // Working memory that grows as needed and serves one call after the other; null: allocated for this call.
  Buffer<float>* scratch = nullptr;
};

// Writes problem.out. Parallel inside. The result for a query does not depend on the number of threads nor on
// which other queries are in the problem: chunked prefill, whole prefill and decode agree bit for bit.
void attend(AttentionKind kind, const AttentionProblem& problem);
// The sequences of a batch, each with its own keys; heads, dtypes and precision are the same in all. Each
// result has the bits of attend() alone. Scratch is that of the first problem.
void attend(AttentionKind kind, std::span<const AttentionProblem> problems);
// The implementations by name. Each reads the nodes of `precision` that it has (base/precision.h); a policy
// that asks for others was refused before it came here.
void eager_attention(const AttentionProblem& problem);
void sdpa_attention(const AttentionProblem& problem);
void flash_attention_2(const AttentionProblem& problem);
// The slow truth: exact softmax attention of the given (rounded) Q, K, V in f64; out64 is [tokens_q, heads_q
// * head_dim].
void reference_attention(const AttentionProblem& problem, double* out64);

// After attend() wrote a non-finite value (a failure, so this may be slow): the first node of the first such
// value whose own value is not finite, recomputed: "q", "k", "v", "scores", "scaled", "pv" or "output". Empty
// when problem.out is finite.
std::string non_finite_node(AttentionKind kind, const AttentionProblem& problem);

// The most working memory attend() allocates for this problem on its context's threads, in bytes.
// eager grows with tokens_q * tokens_kv, sdpa with tokens_kv, flash_attention_2 with neither.
int64_t attention_scratch_bytes(AttentionKind kind, const AttentionProblem& problem);
int64_t attention_scratch_bytes(AttentionKind kind, std::span<const AttentionProblem> problems);

}  // namespace fovea
