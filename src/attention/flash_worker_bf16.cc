#include "attention/flash_worker.h"
#include "kernels/kernels.h"

namespace fovea {
namespace {

static_assert(FlashTile::kKeys == kKeyTile);

// Elements of 16 bits for so many kernel-aligned floats.
int64_t floats_of(int64_t elements) { return round_up(divide_up(elements, 2), FlashSizes::kRowPadding); }

bool holds_bf16(const HeadsView& view) {
  return view.dtype == DType::bf16 || (view.dtype == DType::f32 && view.values == DType::bf16);
}

// The first `tokens` rows of one head as bf16: where they lie, or copied to `out`. `stride` becomes theirs.
const uint16_t* bf16_rows(const Kernels& kernels, const HeadsView& view, int64_t head, int64_t first,
                          int64_t tokens, uint16_t* out, int64_t& stride) {
  if (view.dtype == DType::bf16) {
    stride = view.stride;
    return static_cast<const uint16_t*>(view.at(first, head));
  }
  stride = view.head_dim;
  for (int64_t t = 0; t < tokens; ++t) {
    kernels.bf16_from_f32(static_cast<const float*>(view.at(first + t, head)), out + t * stride, stride);
  }
  return out;
}

// Memory that is read next, or written (kWrite), on its way here while others compute.
template <int kWrite = 0>
void prefetch(const void* at, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t b = 0; b < bytes; b += kLine) __builtin_prefetch(static_cast<const char*>(at) + b, kWrite, 3);
}
void prefetch_row(const HeadsView& view, int64_t token, int64_t head, int64_t heads) {
  prefetch(view.at(token, head), heads * view.head_dim * static_cast<int64_t>(bytes_of(view.dtype)));
}

}  // namespace

bool FlashWorkerBf16::takes(const AttentionProblem& problem) {
  return problem.context.kernels->flash_tile != nullptr && problem.q.head_dim % 16 == 0 &&
         !problem.key_bias.present() && problem.precision.probabilities == DType::bf16 &&
         holds_bf16(problem.q) && holds_bf16(problem.k) && holds_bf16(problem.v) && problem.k.stride % 2 == 0;
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

void FlashWorkerBf16::gather(const QueryTile& tile, int64_t heads) const {
  const int64_t columns = sizes_.group * sizes_.head_dim, keys_soon = std::min(tile.keys, kKeyTile);
  for (int64_t i = 0; i < tile.queries; ++i) {  // the heads of a token lie side by side
    for (int64_t h = 0; h < heads; ++h) {
      const void* row = problem_.q.at(tile.first_query + i, (tile.kv_head + h) * sizes_.group);
      problem_.context.kernels->bf16_from_f32(static_cast<const float*>(row), queries_of(h) + i * columns,
                                              columns);
    }
    if (i >= keys_soon) continue;
    prefetch_row(problem_.k, tile.first_key + i, tile.kv_head, heads);
    prefetch_row(problem_.v, tile.first_key + i, tile.kv_head, heads);
    const int64_t head = (tile.first_query + i) * problem_.q.heads + tile.kv_head * sizes_.group;
    prefetch<1>(problem_.out + head * sizes_.head_dim, heads * columns * int64_t{sizeof(float)});
  }
}

void FlashWorkerBf16::add_split(const QueryTile& tile, int64_t first, int64_t heads, int64_t split,
                                const RunningSoftmax& states) const {
  const int64_t rows = tile.queries * sizes_.group, d = sizes_.head_dim;
  for (int64_t h = 0; h < heads; ++h) states.after(h * sizes_.state_floats()).clear(rows, d);
  const int64_t end = std::min(tile.keys, (split + 1) * kKeySplit);
  if (stored_rows_suffice(rows)) return add_stored_rows(tile, first, heads, split * kKeySplit, end, states);
  for (int64_t key = split * kKeySplit; key < end; key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, end - key);
    const int64_t left = end - key - count;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t head = tile.kv_head + first + h;
      // What comes next: the same head's next keys, or, behind a window's only ones, those of the next head.
      const int64_t next_head = std::min(left > 0 ? head : head + 1, problem_.k.heads - 1),
                    next = tile.first_key + key + (left > 0 ? count : 0),
                    ahead = left > 0 ? std::min(kKeyTile, left) : count;
      int64_t stride = 0;
      const uint16_t* k =
          bf16_rows(*problem_.context.kernels, problem_.k, head, tile.first_key + key, count, rows_, stride);
      problem_.context.kernels->pack_flash_keys(k, stride, count, d, k_tile_);
      const uint16_t* v =
          bf16_rows(*problem_.context.kernels, problem_.v, head, tile.first_key + key, count, rows_, stride);
      problem_.context.kernels->pack_flash_values(v, stride, count, d, v_tile_);
      for (int64_t t = next; t < next + ahead; ++t) {
        prefetch_row(problem_.k, t, next_head, 1);
        prefetch_row(problem_.v, t, next_head, 1);
      }
      const RunningSoftmax state = states.after(h * sizes_.state_floats());
      problem_.context.kernels->flash_tile(flash_tile(tile, first + h, key, count, k_tile_, v_tile_, state));
    }
  }
}

FlashTile FlashWorkerBf16::flash_tile(const QueryTile& tile, int64_t h, int64_t key, int64_t count,
                                      const uint16_t* k, const uint16_t* v,
                                      const RunningSoftmax& state) const {
  const int64_t rows = tile.queries * sizes_.group;
  return {.q = queries_of(h),
          .k = k,
          .v = v,
          .rows = rows,
          .head_dim = sizes_.head_dim,
          .keys = count,
          .visible = problem_.causal ? causal_keys(problem_, tile.first_query) - key : count,
          .group = problem_.causal ? sizes_.group : rows,
          .scale = problem_.scale * std::numbers::log2e_v<float>,
          .shift = state.shift,
          .sum = state.sum,
          .out = state.out};
}

bool FlashWorkerBf16::stored_rows_suffice(int64_t rows) const {
  return rows <= FlashRows::kMost && problem_.context.kernels->flash_rows != nullptr &&
         problem_.k.dtype == DType::bf16 && problem_.v.dtype == DType::bf16;
}

void FlashWorkerBf16::add_stored_rows(const QueryTile& tile, int64_t first, int64_t heads, int64_t begin,
                                      int64_t end, const RunningSoftmax& states) const {
  const auto at = [&](const HeadsView& view, int64_t key, int64_t h) {
    return static_cast<const uint16_t*>(view.at(tile.first_key + key, tile.kv_head + first + h));
  };
  for (int64_t key = begin; key < end; key += kKeyTile) {
    const int64_t count = std::min(kKeyTile, end - key);
    for (int64_t h = 0; h < heads; ++h) {
      // The next tile is that of the next head, or of the first one's next keys.
      const bool last = h + 1 == heads;
      const int64_t next_h = last ? 0 : h + 1, next = last ? key + kKeyTile : key;
      const bool more = next < end;
      problem_.context.kernels->flash_rows(
          {.tile = flash_tile(tile, first + h, key, count, at(problem_.k, key, h), at(problem_.v, key, h),
                              states.after(h * sizes_.state_floats())),
           .k_stride = problem_.k.stride,
           .v_stride = problem_.v.stride,
           .next_k = more ? at(problem_.k, next, next_h) : nullptr,
           .next_v = more ? at(problem_.v, next, next_h) : nullptr});
    }
  }
}

}  // namespace fovea
