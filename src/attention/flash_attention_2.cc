// FlashAttention-2 (Dao 2023) on CPU tiles: online softmax, no buffer that grows with the number of tokens.
// Scores, running maximum, running sum and output are f32; the sum takes the unrounded exponentials while the
// product with V takes them rounded to precision.probabilities, as flash-attention's softmax.h does.
#include <algorithm>
#include <limits>

#include "attention/implementations.h"
#include "attention/rows.h"
#include "base/parallel.h"

namespace fovea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kTileRows = 128;
// Kernels see per-row arrays in whole vectors of any width.
constexpr int64_t kRowPadding = 16;

// The softmax of a tile's rows over the keys seen so far: exponentials are relative to `shift` (the largest
// scaled score, -inf before the first visible key), `sum` is theirs, `out` (rows * head_dim) is their product
// with V.
struct RunningSoftmax {
  float *shift, *sum, *out;

  void clear(int64_t rows, int64_t head_dim) const {
    std::fill_n(shift, rows, -kInfinity);
    std::fill_n(sum, rows, 0.f);
    std::fill_n(out, rows * head_dim, 0.f);
  }
};

// How the scratch of one call is laid out, in floats.
class FlashPlan {
 public:
  explicit FlashPlan(const AttentionProblem& problem)
      : problem_(problem), tiles_(problem, kTileRows), head_dim_(problem.q.head_dim) {
    rows_ = round_up(tiles_.rows_max(), kRowPadding);
    state_floats_ = rows_ * (2 + head_dim_);
    splits_max_ = divide_up(tiles_.keys_max(), kKeySplit);
    // Decode has too few tiles to keep every thread busy: then each tile's splits are computed at the same
    // time.
    split_parallel_ = threads() > 1 && splits_max_ > 1 && tiles_.count() < 2 * threads();
    const int64_t tile_count = std::max<int64_t>(tiles_.count(), 1);
    splits_at_once_ = split_parallel_ ? std::min(splits_max_, divide_up(4 * threads(), tile_count)) : 1;
    const int64_t states = split_parallel_ ? tile_count * (splits_at_once_ + 1) : 2 * threads();
    worker_floats_ = rows_ * (head_dim_ + kKeyTile + 1) + 2 * kKeyTile * head_dim_;
    floats_ = states * state_floats_ + threads() * worker_floats_;
  }

  const QueryTiles& tiles() const { return tiles_; }
  int64_t floats() const { return floats_; }
  int64_t rows() const { return rows_; }
  int64_t state_floats() const { return state_floats_; }
  int64_t worker_floats() const { return worker_floats_; }
  int64_t splits_max() const { return splits_max_; }
  int64_t splits_at_once() const { return splits_at_once_; }
  bool split_parallel() const { return split_parallel_; }

 private:
  const AttentionProblem& problem_;
  QueryTiles tiles_;
  int64_t head_dim_, rows_, state_floats_, worker_floats_, splits_max_, splits_at_once_, floats_;
  bool split_parallel_;
};

// One worker's buffers and what it does with them.
class FlashWorker {
 public:
  FlashWorker(const AttentionProblem& problem, const FlashPlan& plan, float* scratch)
      : problem_(problem), head_dim_(problem.q.head_dim), group_(plan.tiles().group()) {
    queries_ = scratch;
    scores_ = queries_ + plan.rows() * head_dim_;
    factors_ = scores_ + plan.rows() * kKeyTile;
    k_tile_ = factors_ + plan.rows();
    v_tile_ = k_tile_ + kKeyTile * head_dim_;
  }

  // `state` becomes the softmax over the tile's keys of one split; the queries are gathered by the caller.
  void add_split(const QueryTile& tile, int64_t split, const RunningSoftmax& state) const {
    state.clear(tile.queries * group_, head_dim_);
    const int64_t end = std::min(tile.keys, (split + 1) * kKeySplit);
    for (int64_t key = split * kKeySplit; key < end; key += kKeyTile) {
      add_key_tile(tile, key, std::min(kKeyTile, end - key), state);
    }
  }

  void gather(const QueryTile& tile) const { gather_queries(problem_, tile, queries_); }

 private:
  // Keys [key, key + count) of the tile's segment.
  void add_key_tile(const QueryTile& tile, int64_t key, int64_t count, const RunningSoftmax& state) const {
    const int64_t rows = tile.queries * group_;
    score_rows(queries_, rows, problem_.k, tile.kv_head, tile.first_key + key, count, scores_, kKeyTile,
               k_tile_);
    mask(tile, key, count);
    exponentiate(rows, state);
    round_to(problem_.precision.probabilities, scores_, rows * kKeyTile);
    const FloatRows v = float_rows(problem_.v, tile.kv_head, tile.first_key + key, count, v_tile_);
    kernels().matmul_nn_f32(scores_, kKeyTile, v.data, v.stride, state.out, head_dim_, rows, head_dim_,
                            count);
  }

  // -inf where the key lies after the query, and in the columns beyond the last key.
  void mask(const QueryTile& tile, int64_t key, int64_t count) const {
    for (int64_t i = 0; i < tile.queries; ++i) {
      int64_t visible = count;
      if (problem_.causal) {
        visible = std::clamp<int64_t>(causal_keys(problem_, tile.first_query + i) - key, 0, count);
      }
      if (visible == kKeyTile) continue;
      for (int64_t row = i * group_; row < (i + 1) * group_; ++row) {
        std::fill(scores_ + row * kKeyTile + visible, scores_ + (row + 1) * kKeyTile, -kInfinity);
      }
    }
  }

  // Scores become exponentials relative to the updated row maxima; sum and output follow the new maxima.
  void exponentiate(int64_t rows, const RunningSoftmax& state) const {
    bool moved = false;
    for (int64_t row = 0; row < rows; ++row) {
      float& shift = state.shift[row];
      const float highest = kernels().max_value(scores_ + row * kKeyTile, kKeyTile) * problem_.scale;
      const bool higher = highest > shift;
      factors_[row] = higher ? shift - highest : 0.f;
      if (higher) shift = highest;
      moved = moved || higher;
    }
    if (moved) {
      std::fill(factors_ + rows, factors_ + round_up(rows, kRowPadding), 0.f);
      kernels().exp_sum(factors_, round_up(rows, kRowPadding), 1.f, 0.f);
      for (int64_t row = 0; row < rows; ++row) {
        if (factors_[row] == 1.f) continue;
        state.sum[row] *= factors_[row];
        kernels().scale(state.out + row * head_dim_, head_dim_, factors_[row]);
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      // A row without a visible key keeps shift -inf; 0 in its place gives exp(-inf) = 0 instead of NaN.
      const float shift = state.shift[row] == -kInfinity ? 0.f : state.shift[row];
      state.sum[row] += kernels().exp_sum(scores_ + row * kKeyTile, kKeyTile, problem_.scale, shift);
    }
  }

  const AttentionProblem& problem_;
  int64_t head_dim_, group_;
  float *queries_, *scores_, *factors_, *k_tile_, *v_tile_;
};

// exp(from - to) for one pair, by the same kernel as everywhere else.
float decay(float from, float to) {
  alignas(64) float factor[kRowPadding] = {from - to};
  kernels().exp_sum(factor, kRowPadding, 1.f, 0.f);
  return factor[0];
}

// total = total + part, row by row. Rows that saw no key in `part` stay as they are, bit for bit.
void merge(const RunningSoftmax& total, const RunningSoftmax& part, int64_t rows, int64_t head_dim) {
  for (int64_t row = 0; row < rows; ++row) {
    if (part.shift[row] == -kInfinity && part.sum[row] == 0.f) continue;
    float *into = total.out + row * head_dim, *from = part.out + row * head_dim;
    if (total.shift[row] == -kInfinity && total.sum[row] == 0.f) {
      std::copy_n(from, head_dim, into);
      total.sum[row] = part.sum[row];
    } else {
      const float shift = std::max(total.shift[row], part.shift[row]);
      const float keep = decay(total.shift[row], shift), add = decay(part.shift[row], shift);
      for (int64_t c = 0; c < head_dim; ++c) into[c] = into[c] * keep + from[c] * add;
      total.sum[row] = total.sum[row] * keep + part.sum[row] * add;
    }
    total.shift[row] = std::max(total.shift[row], part.shift[row]);
  }
}

// One attention call: the plan, its scratch, and the two ways to spread the work. Both merge the same splits
// in the same order.
class FlashCall {
 public:
  explicit FlashCall(const AttentionProblem& problem)
      : problem_(problem), plan_(problem), scratch_(plan_.floats()), head_dim_(problem.q.head_dim) {}

  void run() {
    if (plan_.split_parallel()) return run_splits_in_parallel();
    parallel_for(plan_.tiles().count(), [&](int64_t index) { run_tile(plan_.tiles()[index]); });
  }

 private:
  void run_tile(const QueryTile& tile) {
    const FlashWorker worker = worker_of_thread();
    const RunningSoftmax total = state(2 * thread_index()), part = state(2 * thread_index() + 1);
    const int64_t rows = tile.queries * plan_.tiles().group();
    worker.gather(tile);
    worker.add_split(tile, 0, total);
    for (int64_t split = 1; split * kKeySplit < tile.keys; ++split) {
      worker.add_split(tile, split, part);
      merge(total, part, rows, head_dim_);
    }
    write_output(problem_, tile, total.out, total.sum);
  }

  void run_splits_in_parallel() {
    const int64_t tile_count = plan_.tiles().count(), at_once = plan_.splits_at_once();
    for (int64_t first = 0; first < plan_.splits_max(); first += at_once) {
      const int64_t now = std::min(at_once, plan_.splits_max() - first);
      parallel_for(tile_count * now, [&](int64_t task) {
        const int64_t index = task / now, split = task % now;
        const FlashWorker worker = worker_of_thread();
        const QueryTile tile = plan_.tiles()[index];
        worker.gather(tile);
        worker.add_split(tile, first + split, state(index * (at_once + 1) + split));
      });
      parallel_for(tile_count, [&](int64_t index) { merge_splits(index, first, now); });
    }
  }

  // Splits [first, first + count) of one tile, just computed, join the tile's total.
  void merge_splits(int64_t index, int64_t first, int64_t count) {
    const QueryTile tile = plan_.tiles()[index];
    const int64_t slot = index * (plan_.splits_at_once() + 1), rows = tile.queries * plan_.tiles().group();
    const RunningSoftmax total = state(slot + plan_.splits_at_once());
    if (first == 0) total.clear(rows, head_dim_);
    for (int64_t split = 0; split < count; ++split) merge(total, state(slot + split), rows, head_dim_);
    if (first + count == plan_.splits_max()) write_output(problem_, tile, total.out, total.sum);
  }

  FlashWorker worker_of_thread() {
    return FlashWorker(problem_, plan_, scratch_.data() + thread_index() * plan_.worker_floats());
  }

  RunningSoftmax state(int64_t slot) {
    float* begin = scratch_.data() + threads() * plan_.worker_floats() + slot * plan_.state_floats();
    return {begin, begin + plan_.rows(), begin + 2 * plan_.rows()};
  }

  const AttentionProblem& problem_;
  FlashPlan plan_;
  Buffer<float> scratch_;
  int64_t head_dim_;
};

}  // namespace

void flash_attention_2(const AttentionProblem& problem) {
  check_problem(problem);
  if (problem.q.tokens > 0) FlashCall(problem).run();
}

int64_t flash_scratch_bytes(const AttentionProblem& problem) {
  return FlashPlan(problem).floats() * int64_t{sizeof(float)};
}

}  // namespace fovea
