#include "attention/flash_worker.h"
#include "attention/rows.h"

namespace fovea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

FlashWorkerF32::FlashWorkerF32(const AttentionProblem& problem, const FlashSizes& sizes, float* scratch)
    : problem_(problem), sizes_(sizes) {
  queries_ = scratch;
  scores_ = queries_ + sizes.heads_per_task * sizes.rows * sizes.head_dim;
  factors_ = scores_ + sizes.rows * kKeyTile;
  k_tiles_ = factors_ + sizes.rows;
  v_tiles_ = k_tiles_ + sizes.heads_per_task * kKeyTile * sizes.head_dim;
}

int64_t FlashWorkerF32::scratch_floats(const FlashSizes& sizes) {
  return sizes.rows * (kKeyTile + 1) + sizes.heads_per_task * (sizes.rows + 2 * kKeyTile) * sizes.head_dim;
}

void FlashWorkerF32::gather(QueryTile tile, int64_t heads) const {
  for (int64_t h = 0; h < heads; ++h, ++tile.kv_head) gather_queries(problem_, tile, queries_of(h));
}

void FlashWorkerF32::add_split(const QueryTile& tile, int64_t first, int64_t heads, int64_t split,
                               const RunningSoftmax& states) const {
  for (int64_t h = 0; h < heads; ++h) {
    states.after(h * sizes_.state_floats()).clear(tile.queries * sizes_.group, sizes_.head_dim);
  }
  const int64_t end = std::min(tile.keys, (split + 1) * kKeySplit);
  for (int64_t key = split * kKeySplit; key < end; key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, end - key);
    pack_keys(problem_, tile.kv_head + first, heads, tile.first_key + key, count, k_tiles_);
    pack_rows(*problem_.context.kernels, problem_.v, tile.kv_head + first, heads, tile.first_key + key, count,
              v_tiles_);
    for (int64_t h = 0; h < heads; ++h) {
      add_key_tile(tile, first, h, key, count, states.after(h * sizes_.state_floats()));
    }
  }
}

// Keys [key, key + count) of the tile's segment, the h-th packed ones, for the task's head number first + h.
void FlashWorkerF32::add_key_tile(const QueryTile& tile, int64_t first, int64_t h, int64_t key, int64_t count,
                                  const RunningSoftmax& state) const {
  const int64_t rows = tile.queries * sizes_.group, d = sizes_.head_dim, packed = h * kKeyTile * d;
  problem_.context.kernels->matmul_nt_f32(queries_of(first + h), d, k_tiles_ + packed, d, scores_, kKeyTile,
                                          rows, count, d);
  mask(tile, key, count);
  exponentiate(rows, state);
  round_to(*problem_.context.kernels, problem_.precision.probabilities, scores_, rows * kKeyTile);
  problem_.context.kernels->matmul_nn_f32(scores_, kKeyTile, v_tiles_ + packed, d, state.out, d, rows, d,
                                          count);
}

// -inf where the key lies after the query, and in the columns beyond the last key.
void FlashWorkerF32::mask(const QueryTile& tile, int64_t key, int64_t count) const {
  for (int64_t i = 0; i < tile.queries; ++i) {
    int64_t visible = count;
    if (problem_.causal) {
      visible = std::clamp<int64_t>(causal_keys(problem_, tile.first_query + i) - key, 0, count);
    }
    if (visible == kKeyTile) continue;
    for (int64_t row = i * sizes_.group; row < (i + 1) * sizes_.group; ++row) {
      std::fill(scores_ + row * kKeyTile + visible, scores_ + (row + 1) * kKeyTile, -kInfinity);
    }
  }
}

// Scores become exponentials relative to the updated row maxima; sum and output follow the new maxima.
void FlashWorkerF32::exponentiate(int64_t rows, const RunningSoftmax& state) const {
  bool moved = false;
  for (int64_t row = 0; row < rows; ++row) {
    float& shift = state.shift[row];
    const float highest =
        problem_.context.kernels->max_value(scores_ + row * kKeyTile, kKeyTile) * problem_.scale;
    const bool higher = highest > shift;
    factors_[row] = higher ? shift - highest : 0.f;
    if (higher) shift = highest;
    moved = moved || higher;
  }
  if (moved) {
    const int64_t padded = round_up(rows, FlashSizes::kRowPadding);
    std::fill(factors_ + rows, factors_ + padded, 0.f);
    problem_.context.kernels->exp_sum(factors_, padded, 1.f, 0.f);
    for (int64_t row = 0; row < rows; ++row) {
      if (factors_[row] == 1.f) continue;
      state.sum[row] *= factors_[row];
      float* out = state.out + row * sizes_.head_dim;
      problem_.context.kernels->scale(out, factors_[row], out, sizes_.head_dim, DType::f32);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    // A row without a visible key keeps shift -inf; 0 in its place gives exp(-inf) = 0 instead of NaN.
    const float shift = state.shift[row] == -kInfinity ? 0.f : state.shift[row];
    state.sum[row] +=
        problem_.context.kernels->exp_sum(scores_ + row * kKeyTile, kKeyTile, problem_.scale, shift);
  }
}

}  // namespace fovea
