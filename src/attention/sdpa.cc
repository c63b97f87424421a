// torch.nn.functional.scaled_dot_product_attention as its math kernel computes it since torch 2.5: everything
// in f32 between the 16-bit inputs and the single rounding of the output. Scores exist for one query tile at
// a time, and the softmax takes two passes: the maximum, then exponentials and their sum.
#include <algorithm>
#include <limits>

#include "attention/implementations.h"
#include "attention/rows.h"

namespace fovea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Rows share the cost of packing K and V, but their scores should stay in cache.
constexpr int64_t kScoreFloats = int64_t{1} << 18;
constexpr int64_t kTileRowsMin = 64, kTileRowsMax = 128;

int64_t keys_max_of(const AttentionProblem& problem) { return QueryTiles(problem, 1).keys_max(); }

// How the scratch of one call is laid out, in floats.
struct SdpaPlan {
  explicit SdpaPlan(const AttentionProblem& problem)
      : tiles(problem, std::clamp(kScoreFloats / std::max<int64_t>(keys_max_of(problem), 1), kTileRowsMin,
                                  kTileRowsMax)),
        head_dim(problem.q.head_dim),
        rows(tiles.rows_max()),
        splits_max(divide_up(tiles.keys_max(), kKeySplit)) {
    const int64_t threads = problem.context.threads();
    // 16 more than needed: rows a multiple of 4 KiB apart would share one cache set.
    score_stride = std::min(kKeySplit, round_up(tiles.keys_max(), kKeyTile)) + 16;
    // Decode has too few tiles to keep every thread busy: then each tile's splits are computed at the same
    // time.
    split_parallel = threads > 1 && splits_max > 1 && tiles.count() < 2 * threads;
    parts = split_parallel ? splits_max : 1;
    part_floats = rows * (2 + head_dim);
    tile_floats = rows * head_dim + splits_max * rows * score_stride + (1 + parts) * part_floats;
    worker_floats = kKeyTile * head_dim;
    floats = (split_parallel ? tiles.count() : threads) * tile_floats + threads * worker_floats;
  }

  QueryTiles tiles;
  int64_t head_dim, rows, splits_max, score_stride, parts, part_floats, tile_floats, worker_floats, floats;
  bool split_parallel;
};

// What the softmax of some keys contributes to each row. `highest` is of the scaled scores.
struct Part {
  float *highest, *sum, *out;
};

// The buffers of one query tile and the steps of its computation.
class SdpaTile {
 public:
  SdpaTile(const AttentionProblem& problem, const SdpaPlan& plan, const QueryTile& tile, float* scratch)
      : problem_(problem),
        plan_(plan),
        tile_(tile),
        rows_(tile.queries * plan.tiles.group()),
        queries_(scratch) {
    scores_ = queries_ + plan.rows * plan.head_dim;
    parts_ = scores_ + plan.splits_max * plan.rows * plan.score_stride;
  }

  void begin() const {
    gather_queries(problem_, tile_, queries_);
    std::fill_n(total().highest, rows_, -kInfinity);
    std::fill_n(total().sum, rows_, 0.f);
    std::fill_n(total().out, rows_ * plan_.head_dim, 0.f);
  }

  int64_t splits() const { return divide_up(tile_.keys, kKeySplit); }

  // First pass: masked scores of one split and their row maxima.
  void score_split(int64_t split, int64_t part, float* k_tile) const {
    const int64_t first = split * kKeySplit, end = std::min(tile_.keys, first + kKeySplit);
    float* scores = split_scores(split);
    for (int64_t key = first; key < end; key += kKeyTile) {
      score_rows(problem_, queries_, rows_, tile_.kv_head, tile_.first_key + key,
                 std::min(kKeyTile, end - key), scores + key - first, plan_.score_stride, k_tile);
    }
    const int64_t columns = round_up(end - first, kKeyTile);
    for (int64_t row = 0; row < rows_; ++row) {
      float* line = scores + row * plan_.score_stride;
      std::fill(line + visible_keys(row, first, end), line + columns, -kInfinity);
      part_at(part).highest[row] = problem_.context.kernels->max_value(line, columns) * problem_.scale;
    }
  }

  void join_maxima(int64_t part) const {
    for (int64_t row = 0; row < rows_; ++row) {
      total().highest[row] = std::max(total().highest[row], part_at(part).highest[row]);
    }
  }

  // Second pass, given the row maxima over all keys: exponentials, their sum, and their product with V.
  void weigh_split(int64_t split, int64_t part, float* v_tile) const {
    const int64_t first = split * kKeySplit, end = std::min(tile_.keys, first + kKeySplit);
    const int64_t columns = round_up(end - first, kKeyTile);
    float* scores = split_scores(split);
    for (int64_t row = 0; row < rows_; ++row) {
      // A row without a visible key has maximum -inf; 0 in its place gives exp(-inf) = 0 instead of NaN.
      const float highest = total().highest[row] == -kInfinity ? 0.f : total().highest[row];
      part_at(part).sum[row] = problem_.context.kernels->exp_sum(scores + row * plan_.score_stride, columns,
                                                                 problem_.scale, highest);
    }
    float* out = part_at(part).out;
    std::fill_n(out, rows_ * plan_.head_dim, 0.f);
    for (int64_t key = first; key < end; key += kKeyTile) {
      const int64_t count = std::min(kKeyTile, end - key);
      weigh_rows(*problem_.context.kernels, scores + key - first, plan_.score_stride, rows_, problem_.v,
                 tile_.kv_head, tile_.first_key + key, count, out, v_tile);
    }
  }

  void join_sums(int64_t part) const {
    const Part from = part_at(part);
    for (int64_t row = 0; row < rows_; ++row) total().sum[row] += from.sum[row];
    for (int64_t i = 0; i < rows_ * plan_.head_dim; ++i) total().out[i] += from.out[i];
  }

  void finish() const { write_output(problem_, tile_, total().out, total().sum); }

 private:
  int64_t visible_keys(int64_t row, int64_t first, int64_t end) const {
    if (!problem_.causal) return end - first;
    const int64_t query = tile_.first_query + row / plan_.tiles.group();
    return std::clamp<int64_t>(causal_keys(problem_, query) - first, 0, end - first);
  }

  float* split_scores(int64_t split) const { return scores_ + split * plan_.rows * plan_.score_stride; }
  Part total() const { return part_at(-1); }
  Part part_at(int64_t index) const {
    float* begin = parts_ + (index + 1) * plan_.part_floats;
    return {begin, begin + plan_.rows, begin + 2 * plan_.rows};
  }

  const AttentionProblem& problem_;
  const SdpaPlan& plan_;
  QueryTile tile_;
  int64_t rows_;
  float *queries_, *scores_, *parts_;
};

void run_tiles_in_parallel(const AttentionProblem& problem, const SdpaPlan& plan, float* scratch) {
  problem.context.parallel_for(plan.tiles.count(), [&](int64_t index, int worker) {
    float* of_thread = scratch + worker * (plan.tile_floats + plan.worker_floats);
    float* kv_tile = of_thread + plan.tile_floats;
    const SdpaTile tile(problem, plan, plan.tiles[index], of_thread);
    tile.begin();
    for (int64_t split = 0; split < tile.splits(); ++split) {
      tile.score_split(split, 0, kv_tile);
      tile.join_maxima(0);
    }
    for (int64_t split = 0; split < tile.splits(); ++split) {
      tile.weigh_split(split, 0, kv_tile);
      tile.join_sums(0);
    }
    tile.finish();
  });
}

// The same steps on the same splits, joined in the same order.
void run_splits_in_parallel(const AttentionProblem& problem, const SdpaPlan& plan, float* scratch) {
  const int64_t tile_count = plan.tiles.count();
  float* workers = scratch + tile_count * plan.tile_floats;
  const auto tile_at = [&](int64_t index) {
    return SdpaTile(problem, plan, plan.tiles[index], scratch + index * plan.tile_floats);
  };
  const auto each_split = [&](auto step) {
    problem.context.parallel_for(tile_count * plan.splits_max, [&](int64_t task, int worker) {
      const SdpaTile tile = tile_at(task / plan.splits_max);
      const int64_t split = task % plan.splits_max;
      if (split < tile.splits()) step(tile, split, workers + worker * plan.worker_floats);
    });
  };
  problem.context.parallel_for(tile_count, [&](int64_t index) { tile_at(index).begin(); });
  each_split(
      [](const SdpaTile& tile, int64_t split, float* k_tile) { tile.score_split(split, split, k_tile); });
  problem.context.parallel_for(tile_count, [&](int64_t index) {
    for (int64_t split = 0; split < tile_at(index).splits(); ++split) tile_at(index).join_maxima(split);
  });
  each_split(
      [](const SdpaTile& tile, int64_t split, float* v_tile) { tile.weigh_split(split, split, v_tile); });
  problem.context.parallel_for(tile_count, [&](int64_t index) {
    for (int64_t split = 0; split < tile_at(index).splits(); ++split) tile_at(index).join_sums(split);
    tile_at(index).finish();
  });
}

}  // namespace

void sdpa_attention(const AttentionProblem& problem) {
  check_problem(problem);
  if (problem.q.tokens == 0) return;
  const SdpaPlan plan(problem);
  Buffer<float> own;
  float* scratch = scratch_of(problem, plan.floats, own);
  if (plan.split_parallel) {
    run_splits_in_parallel(problem, plan, scratch);
  } else {
    run_tiles_in_parallel(problem, plan, scratch);
  }
}

int64_t sdpa_scratch_bytes(const AttentionProblem& problem) {
  return SdpaPlan(problem).floats * int64_t{sizeof(float)};
}

}  // namespace fovea
