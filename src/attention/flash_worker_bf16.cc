#include "attention/flash_worker.h"
#include "kernels/kernels.h"

namespace fovea {
namespace {

static_assert(FlashTile::kKeys == kKeyTile);

// Elements of 16 bits for so many kernels()-aligned floats.
int64_t floats_of(int64_t elements) { return round_up(divide_up(elements, 2), FlashSizes::kRowPadding); }

bool holds_bf16(const HeadsView& view) {
  return view.dtype == DType::bf16 || (view.dtype == DType::f32 && view.values == DType::bf16);
}

// The first `tokens` rows of one head as bf16: where they lie, or copied to `out`. `stride` becomes theirs.
const uint16_t* bf16_rows(const HeadsView& view, int64_t head, int64_t first, int64_t tokens, uint16_t* out,
                          int64_t& stride) {
  if (view.dtype == DType::bf16) {
    stride = view.stride;
    return static_cast<const uint16_t*>(view.at(first, head));
  }
  stride = view.head_dim;
  for (int64_t t = 0; t < tokens; ++t) {
    kernels().bf16_from_f32(static_cast<const float*>(view.at(first + t, head)), out + t * stride, stride);
  }
  return out;
}

// Rows that come next, on their way to the L2 cache while others compute.
void prefetch_rows(const HeadsView& view, int64_t head, int64_t first, int64_t tokens) {
  constexpr int64_t kLine = 64;
  const int64_t bytes = view.head_dim * static_cast<int64_t>(bytes_of(view.dtype));
  for (int64_t t = 0; t < tokens; ++t) {
    const auto* row = static_cast<const char*>(view.at(first + t, head));
    for (int64_t b = 0; b < bytes; b += kLine) __builtin_prefetch(row + b, 0, 2);
  }
}

}  // namespace

bool FlashWorkerBf16::takes(const AttentionProblem& problem) {
  return kernels().flash_tile != nullptr && problem.q.head_dim % 16 == 0 && !problem.key_bias.present() &&
         problem.precision.probabilities == DType::bf16 && holds_bf16(problem.q) && holds_bf16(problem.k) &&
         holds_bf16(problem.v) && problem.k.stride % 2 == 0;
}

FlashWorkerBf16::FlashWorkerBf16(const AttentionProblem& problem, const FlashSizes& sizes, float* scratch)
    : problem_(problem), sizes_(sizes) {
  const int64_t tile = 2 * floats_of(kKeyTile * sizes.head_dim);
  k_tile_ = reinterpret_cast<uint16_t*>(scratch);
  v_tile_ = k_tile_ + tile;
  rows_ = v_tile_ + tile;
  queries_ = rows_ + tile;
}

int64_t FlashWorkerBf16::scratch_floats(const FlashSizes& sizes) {
  return 3 * floats_of(kKeyTile * sizes.head_dim) +
         floats_of(sizes.heads_per_task * sizes.rows * sizes.head_dim);
}

void FlashWorkerBf16::gather(QueryTile tile, int64_t heads) const {
  const int64_t columns = sizes_.group * sizes_.head_dim;
  for (int64_t h = 0; h < heads; ++h, ++tile.kv_head) {
    for (int64_t i = 0; i < tile.queries; ++i) {
      const void* row = problem_.q.at(tile.first_query + i, tile.kv_head * sizes_.group);
      kernels().bf16_from_f32(static_cast<const float*>(row), queries_of(h) + i * columns, columns);
    }
  }
}

void FlashWorkerBf16::add_split(const QueryTile& tile, int64_t heads, int64_t split,
                                const RunningSoftmax& states) const {
  const int64_t rows = tile.queries * sizes_.group, d = sizes_.head_dim;
  for (int64_t h = 0; h < heads; ++h) states.after(h * sizes_.state_floats()).clear(rows, d);
  const int64_t end = std::min(tile.keys, (split + 1) * kKeySplit);
  for (int64_t key = split * kKeySplit; key < end; key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, end - key);
    const int64_t next = key + kKeyTile, ahead = std::min(kKeyTile, end - next);
    for (int64_t h = 0; h < heads; ++h) {
      int64_t stride = 0;
      prefetch_rows(problem_.k, tile.kv_head + h, tile.first_key + next, ahead);
      const uint16_t* k = bf16_rows(problem_.k, tile.kv_head + h, tile.first_key + key, count, rows_, stride);
      kernels().pack_flash_keys(k, stride, count, d, k_tile_);
      prefetch_rows(problem_.v, tile.kv_head + h, tile.first_key + next, ahead);
      const uint16_t* v = bf16_rows(problem_.v, tile.kv_head + h, tile.first_key + key, count, rows_, stride);
      kernels().pack_flash_values(v, stride, count, d, v_tile_);
      const RunningSoftmax state = states.after(h * sizes_.state_floats());
      kernels().flash_tile(
          {.q = queries_of(h),
           .k = k_tile_,
           .v = v_tile_,
           .rows = rows,
           .head_dim = d,
           .keys = count,
           .visible = problem_.causal ? causal_keys(problem_, tile.first_query) - key : count,
           .group = problem_.causal ? sizes_.group : rows,
           .scale = problem_.scale * std::numbers::log2e_v<float>,
           .shift = state.shift,
           .sum = state.sum,
           .out = state.out});
    }
  }
}

}  // namespace fovea
