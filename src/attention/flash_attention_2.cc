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
// More rows share the cost of packing K and V; fewer make more tiles for more threads.
constexpr int64_t kTileRowsMin = 32, kTileRowsMax = 256;
// Up to this many rows per kv head (decode, short chunks), and in segments of up to this many keys (vision
// windows), reading K and V takes much of the time. Then a task takes several heads, whose keys lie side by
// side in memory, as long as their tiles fit the L2 cache.
constexpr int64_t kNarrowRows = 32, kWindowKeys = kKeyTile, kHeadsPerTaskMax = 4;
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
  RunningSoftmax after(int64_t floats) const { return {shift + floats, sum + floats, out + floats}; }
};

int64_t rows_wanted(const AttentionProblem& problem) {
  return std::clamp(problem.q.tokens * problem.q.heads / (4 * threads()), kTileRowsMin, kTileRowsMax);
}

// What a task is: a query tile with all its keys; some heads of a short segment; one split of some heads.
enum class Way { tiles, windows, splits };

// How the work of one call is cut and its scratch laid out, in floats.
class FlashPlan {
 public:
  explicit FlashPlan(const AttentionProblem& problem)
      : tiles_(problem, rows_wanted(problem)), head_dim_(problem.q.head_dim) {
    rows_ = round_up(tiles_.rows_max(), kRowPadding);
    state_floats_ = rows_ * (2 + head_dim_);
    splits_max_ = divide_up(tiles_.keys_max(), kKeySplit);
    const int64_t heads = problem.k.heads;
    if (problem.cu_seqlens.empty() && problem.q.tokens * tiles_.group() <= kNarrowRows && splits_max_ > 1) {
      way_ = Way::splits;
      const int64_t parts = std::clamp<int64_t>(divide_up(2 * threads(), splits_max_), 1, heads);
      heads_per_task_ = std::min(divide_up(heads, parts), kHeadsPerTaskMax);
      splits_at_once_ = std::min(splits_max_, divide_up(4 * threads(), parts));
    } else if (!problem.cu_seqlens.empty() &&
               tiles_.keys_max() <= std::min(kWindowKeys, tiles_.rows_max() / tiles_.group())) {
      way_ = Way::windows;
      heads_per_task_ = std::min(heads, kHeadsPerTaskMax);
    }
    const int64_t states = way_ == Way::splits ? heads * (splits_at_once_ + 1)
                                               : std::max<int64_t>(2, heads_per_task_) * threads();
    worker_floats_ = rows_ * (kKeyTile + 1) + heads_per_task_ * (rows_ + 2 * kKeyTile) * head_dim_;
    floats_ = states * state_floats_ + threads() * worker_floats_;
  }

  const QueryTiles& tiles() const { return tiles_; }
  int64_t floats() const { return floats_; }
  int64_t rows() const { return rows_; }
  int64_t state_floats() const { return state_floats_; }
  int64_t worker_floats() const { return worker_floats_; }
  int64_t splits_max() const { return splits_max_; }
  int64_t splits_at_once() const { return splits_at_once_; }
  int64_t heads_per_task() const { return heads_per_task_; }
  Way way() const { return way_; }

 private:
  QueryTiles tiles_;
  int64_t head_dim_, rows_, state_floats_, worker_floats_, splits_max_, floats_;
  int64_t heads_per_task_ = 1, splits_at_once_ = 1;
  Way way_ = Way::tiles;
};

// One worker's buffers and what it does with them: the same queries for one or more neighbouring kv heads.
class FlashWorker {
 public:
  FlashWorker(const AttentionProblem& problem, const FlashPlan& plan, float* scratch)
      : problem_(problem), plan_(plan), head_dim_(problem.q.head_dim), group_(plan.tiles().group()) {
    queries_ = scratch;
    scores_ = queries_ + plan.heads_per_task() * plan.rows() * head_dim_;
    factors_ = scores_ + plan.rows() * kKeyTile;
    k_tiles_ = factors_ + plan.rows();
    v_tiles_ = k_tiles_ + plan.heads_per_task() * kKeyTile * head_dim_;
  }

  // The tile's queries for its kv head and the `heads` - 1 after it.
  void gather(QueryTile tile, int64_t heads) const {
    for (int64_t h = 0; h < heads; ++h, ++tile.kv_head) gather_queries(problem_, tile, queries_of(h));
  }

  // After gather(): `states`, one per head, become the softmax over the keys of one split. Heads take turns
  // tile by tile, because their keys lie next to each other in memory.
  void add_split(const QueryTile& tile, int64_t heads, int64_t split, const RunningSoftmax& states) const {
    for (int64_t h = 0; h < heads; ++h) {
      states.after(h * plan_.state_floats()).clear(tile.queries * group_, head_dim_);
    }
    const int64_t end = std::min(tile.keys, (split + 1) * kKeySplit);
    for (int64_t key = split * kKeySplit; key < end; key += kKeyTile) {
      const int64_t count = std::min(kKeyTile, end - key);
      pack_keys(problem_, tile.kv_head, heads, tile.first_key + key, count, k_tiles_);
      pack_rows(problem_.v, tile.kv_head, heads, tile.first_key + key, count, v_tiles_);
      for (int64_t h = 0; h < heads; ++h) {
        add_key_tile(tile, h, key, count, states.after(h * plan_.state_floats()));
      }
    }
  }

 private:
  float* queries_of(int64_t h) const { return queries_ + h * plan_.rows() * head_dim_; }

  // Keys [key, key + count) of the tile's segment, packed, for the task's head number h.
  void add_key_tile(const QueryTile& tile, int64_t h, int64_t key, int64_t count,
                    const RunningSoftmax& state) const {
    const int64_t rows = tile.queries * group_, d = head_dim_, packed = h * kKeyTile * d;
    kernels().matmul_nt_f32(queries_of(h), d, k_tiles_ + packed, d, scores_, kKeyTile, rows, count, d);
    mask(tile, key, count);
    exponentiate(rows, state);
    round_to(problem_.precision.probabilities, scores_, rows * kKeyTile);
    kernels().matmul_nn_f32(scores_, kKeyTile, v_tiles_ + packed, d, state.out, d, rows, d, count);
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
  const FlashPlan& plan_;
  int64_t head_dim_, group_;
  float *queries_, *scores_, *factors_, *k_tiles_, *v_tiles_;
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
    switch (plan_.way()) {
      case Way::tiles:
        return run_tiles();
      case Way::windows:
        return run_windows();
      case Way::splits:
        return run_splits();
    }
  }

 private:
  void run_tiles() {
    parallel_for(plan_.tiles().count(), [&](int64_t index) {
      const QueryTile tile = plan_.tiles()[index];
      const FlashWorker worker = worker_of_thread();
      const RunningSoftmax total = state(2 * thread_index()), part = state(2 * thread_index() + 1);
      worker.gather(tile, 1);
      worker.add_split(tile, 1, 0, total);
      for (int64_t split = 1; split * kKeySplit < tile.keys; ++split) {
        worker.add_split(tile, 1, split, part);
        merge(total, part, tile.queries * plan_.tiles().group(), head_dim_);
      }
      write_output(problem_, tile, total.out, total.sum);
    });
  }

  // Every segment is one tile per kv head, so that tiles of consecutive heads have consecutive indices.
  void run_windows() {
    const int64_t heads = problem_.k.heads, per_task = plan_.heads_per_task(),
                  parts = divide_up(heads, per_task);
    parallel_for(plan_.tiles().count() / heads * parts, [&](int64_t task) {
      const int64_t head = task % parts * per_task, count = std::min(per_task, heads - head);
      QueryTile tile = plan_.tiles()[task / parts * heads + head];
      const FlashWorker worker = worker_of_thread();
      const int64_t first_state = per_task * thread_index();
      worker.gather(tile, count);
      worker.add_split(tile, count, 0, state(first_state));
      for (int64_t h = 0; h < count; ++h, ++tile.kv_head) {
        write_output(problem_, tile, state(first_state + h).out, state(first_state + h).sum);
      }
    });
  }

  // One tile per kv head: tasks are splits, a bounded number of them at a time.
  void run_splits() {
    const int64_t heads = problem_.k.heads, per_task = plan_.heads_per_task(),
                  parts = divide_up(heads, per_task);
    for (int64_t first = 0; first < plan_.splits_max(); first += plan_.splits_at_once()) {
      const int64_t now = std::min(plan_.splits_at_once(), plan_.splits_max() - first);
      parallel_for(now * parts, [&](int64_t task) {
        const int64_t split = task / parts, head = task % parts * per_task;
        const int64_t count = std::min(per_task, heads - head);
        const FlashWorker worker = worker_of_thread();
        const QueryTile tile = plan_.tiles()[head];
        worker.gather(tile, count);
        worker.add_split(tile, count, first + split, state(split * heads + head));
      });
      parallel_for(heads, [&](int64_t head) { merge_splits(head, first, now); });
    }
  }

  // Splits [first, first + count) of one head, just computed, join the head's total.
  void merge_splits(int64_t head, int64_t first, int64_t count) {
    const QueryTile tile = plan_.tiles()[head];
    const int64_t heads = problem_.k.heads, rows = tile.queries * plan_.tiles().group();
    const RunningSoftmax total = state(plan_.splits_at_once() * heads + head);
    if (first == 0) total.clear(rows, head_dim_);
    for (int64_t split = 0; split < count; ++split)
      merge(total, state(split * heads + head), rows, head_dim_);
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
