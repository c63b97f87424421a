// What one thread of flash attention does: one tile of queries against one split of keys, in one of two forms
// of the same algorithm. Which one a problem takes depends on its dtypes and the machine, never on its size.
#pragma once

#include <algorithm>
#include <limits>
#include <numbers>

#include "attention/problem.h"
#include "attention/query_tiles.h"
#include "kernels/kernels.h"

namespace fovea {

// The softmax of a tile's rows over the keys seen so far: exponentials are relative to `shift` (the largest
// scaled score, -inf before the first visible key), `sum` is theirs, `out` (rows * head_dim) is their product
// with V.
struct RunningSoftmax {
  float *shift, *sum, *out;

  void clear(int64_t rows, int64_t head_dim) const {
    std::fill_n(shift, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(sum, rows, 0.f);
    std::fill_n(out, rows * head_dim, 0.f);
  }
  RunningSoftmax after(int64_t floats) const { return {shift + floats, sum + floats, out + floats}; }
};

// Sizes that workers share. Rows of a tile's arrays are padded: kernels see them in whole vectors of any
// width.
struct FlashSizes {
  static constexpr int64_t kRowPadding = 16;

  int64_t rows, group, head_dim;
  int64_t heads_per_task;  // neighbouring kv heads that a worker takes at once

  int64_t state_floats() const { return rows * (2 + head_dim); }
};

// f32 tiles, whatever q, k and v are stored as: every machine, every policy.
class FlashWorkerF32 {
 public:
  static constexpr float kShiftUnit = 1.f;  // ln of the base that `shift` counts in
  // Heads of a window that a task takes, and how many of them add_split() takes.
  static constexpr int64_t kWindowHeads = 4, kWindowHeadsAtOnce = 4;

  FlashWorkerF32(const AttentionProblem& problem, const FlashSizes& sizes, float* scratch);
  static int64_t scratch_floats(const FlashSizes& sizes);

  // The tile's queries for its kv head and the `heads` - 1 after it.
  void gather(QueryTile tile, int64_t heads) const;
  // After gather(): `states`, one for each of `heads` of its heads from number `first` on, become the softmax
  // over the keys of one split. Heads take turns tile by tile, because their keys lie next to each other in
  // memory.
  void add_split(const QueryTile& tile, int64_t first, int64_t heads, int64_t split,
                 const RunningSoftmax& states) const;

 private:
  float* queries_of(int64_t h) const { return queries_ + h * sizes_.rows * sizes_.head_dim; }
  void add_key_tile(const QueryTile& tile, int64_t first, int64_t h, int64_t key, int64_t count,
                    const RunningSoftmax& state) const;
  void mask(const QueryTile& tile, int64_t key, int64_t count) const;
  void exponentiate(int64_t rows, const RunningSoftmax& state) const;

  const AttentionProblem& problem_;
  const FlashSizes& sizes_;
  float *queries_, *scores_, *factors_, *k_tiles_, *v_tiles_;
};

// bf16 products of bf16 values, on machines that have them: the arithmetic of flash-attention on a GPU.
class FlashWorkerBf16 {
 public:
  static constexpr float kShiftUnit = std::numbers::ln2_v<float>;
  static constexpr int64_t kWindowHeads = 16, kWindowHeadsAtOnce = 1;  // see FlashWorkerF32

  // Whether q, k and v hold bf16 values and probabilities are to be rounded to bf16, and the kernels can do
  // it.
  static bool takes(const AttentionProblem& problem);

  FlashWorkerBf16(const AttentionProblem& problem, const FlashSizes& sizes, float* scratch);
  static int64_t scratch_floats(const FlashSizes& sizes);

  void gather(const QueryTile& tile, int64_t heads) const;
  void add_split(const QueryTile& tile, int64_t first, int64_t heads, int64_t split,
                 const RunningSoftmax& states) const;

 private:
  uint16_t* queries_of(int64_t h) const { return queries_ + h * sizes_.rows * sizes_.head_dim; }
  // `count` keys from `key` on, at k and v, for the h-th head of the task.
  FlashTile flash_tile(const QueryTile& tile, int64_t h, int64_t key, int64_t count, const uint16_t* k,
                       const uint16_t* v, const RunningSoftmax& state) const;
  // Whether so few rows read keys and values where they lie.
  bool stored_rows_suffice(int64_t rows) const;
  void add_stored_rows(const QueryTile& tile, int64_t first, int64_t heads, int64_t begin, int64_t end,
                       const RunningSoftmax& states) const;

  const AttentionProblem& problem_;
  const FlashSizes& sizes_;
  uint16_t *queries_, *rows_, *k_tile_, *v_tile_;
};

}  // namespace fovea
