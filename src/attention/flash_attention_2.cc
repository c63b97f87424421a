// FlashAttention-2 (Dao 2023) on CPU tiles: online softmax, no buffer that grows with the number of tokens.
// Scores, running maximum, running sum and output are f32; the sum takes the unrounded exponentials while the
// product with V takes them rounded to precision.probabilities, as flash-attention's softmax.h does.
#include <algorithm>

#include "attention/flash_worker.h"
#include "attention/implementations.h"
#include "attention/rows.h"
#include "base/parallel.h"

namespace fovea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// More rows share the cost of packing K and V; fewer make more tiles for more threads.
constexpr int64_t kTileRowsMin = 32, kTileRowsMax = 512;
// Up to this many rows per kv head (decode, short chunks), and in segments of up to this many keys (vision
// windows), reading K and V takes much of the time. Then a task takes several heads, whose keys lie side by
// side in memory, as long as their tiles fit the L2 cache.
constexpr int64_t kNarrowRows = 32, kWindowKeys = kKeyTile, kSplitHeadsMax = 4;
// Splits of a head that wait to be merged: fewer would make threads wait for each other more often.
constexpr int64_t kSplitsPerThread = 16;

int64_t rows_wanted(const AttentionProblem& problem) {
  return std::clamp(problem.q.tokens * problem.q.heads / (4 * threads()), kTileRowsMin, kTileRowsMax);
}

// What a task is: a query tile with all its keys; some heads of a short segment; one split of some heads.
enum class Way { tiles, windows, splits };

// How the work of one call is cut and its scratch laid out, in floats.
class FlashPlan {
 public:
  explicit FlashPlan(const AttentionProblem& problem)
      : tiles_(problem, rows_wanted(problem)), bf16_(FlashWorkerBf16::takes(problem)) {
    sizes_ = {round_up(tiles_.rows_max(), FlashSizes::kRowPadding), tiles_.group(), problem.q.head_dim, 1};
    splits_max_ = divide_up(tiles_.keys_max(), kKeySplit);
    const int64_t heads = problem.k.heads;
    if (problem.cu_seqlens.empty() && problem.q.tokens * tiles_.group() <= kNarrowRows && splits_max_ > 1) {
      way_ = Way::splits;
      const int64_t parts = std::clamp<int64_t>(divide_up(2 * threads(), splits_max_), 1, heads);
      sizes_.heads_per_task = std::min(divide_up(heads, parts), kSplitHeadsMax);
      splits_at_once_ = std::min(splits_max_, divide_up(kSplitsPerThread * threads(), parts));
    } else if (!problem.cu_seqlens.empty() &&
               tiles_.keys_max() <= std::min(kWindowKeys, tiles_.rows_max() / tiles_.group())) {
      way_ = Way::windows;
      sizes_.heads_per_task =
          std::min(heads, bf16_ ? FlashWorkerBf16::kWindowHeads : FlashWorkerF32::kWindowHeads);
      states_per_thread_ = bf16_ ? FlashWorkerBf16::kWindowHeadsAtOnce : FlashWorkerF32::kWindowHeadsAtOnce;
    }
    const int64_t states =
        way_ == Way::splits ? heads * (splits_at_once_ + 1) : states_per_thread_ * threads();
    worker_floats_ = bf16_ ? FlashWorkerBf16::scratch_floats(sizes_) : FlashWorkerF32::scratch_floats(sizes_);
    floats_ = states * sizes_.state_floats() + threads() * worker_floats_;
  }

  const QueryTiles& tiles() const { return tiles_; }
  int64_t floats() const { return floats_; }
  bool bf16() const { return bf16_; }
  const FlashSizes& sizes() const { return sizes_; }
  int64_t worker_floats() const { return worker_floats_; }
  int64_t splits_max() const { return splits_max_; }
  int64_t splits_at_once() const { return splits_at_once_; }
  int64_t states_per_thread() const { return states_per_thread_; }  // but in splits
  Way way() const { return way_; }

 private:
  QueryTiles tiles_;
  bool bf16_;
  FlashSizes sizes_;
  int64_t worker_floats_, splits_max_, floats_, splits_at_once_ = 1;
  int64_t states_per_thread_ = 2;  // of a tile: all splits so far, and one
  Way way_ = Way::tiles;
};

// total = total + part, row by row, with shifts in `unit`. Rows that saw no key in `part` stay as they are,
// bit for bit.
void merge(const RunningSoftmax& total, const RunningSoftmax& part, int64_t rows, int64_t head_dim,
           float unit) {
  constexpr int64_t kRows = FlashSizes::kRowPadding;
  const auto unseen = [](const RunningSoftmax& state, int64_t row) {
    return state.shift[row] == -kInfinity && state.sum[row] == 0.f;
  };
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t count = std::min(kRows, rows - first);
    // What the shift of each part moves by; then what it shrinks by, by the same kernel as everywhere else.
    alignas(64) float keep[kRows] = {}, add[kRows] = {};
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = first + r;
      if (unseen(part, row) || unseen(total, row)) continue;
      const float shift = std::max(total.shift[row], part.shift[row]);
      keep[r] = total.shift[row] - shift;
      add[r] = part.shift[row] - shift;
    }
    kernels().exp_sum(keep, kRows, unit, 0.f);
    kernels().exp_sum(add, kRows, unit, 0.f);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t row = first + r;
      float *into = total.out + row * head_dim, *from = part.out + row * head_dim;
      if (unseen(part, row)) continue;
      if (unseen(total, row)) {
        std::copy_n(from, head_dim, into);
        total.sum[row] = part.sum[row];
      } else {
        for (int64_t c = 0; c < head_dim; ++c) into[c] = into[c] * keep[r] + from[c] * add[r];
        total.sum[row] = total.sum[row] * keep[r] + part.sum[row] * add[r];
      }
      total.shift[row] = std::max(total.shift[row], part.shift[row]);
    }
  }
}

// One attention call: the plan, its scratch, and the two ways to spread the work. Both merge the same splits
// in the same order.
template <typename Worker>
class FlashCall {
 public:
  FlashCall(const AttentionProblem& problem, const FlashPlan& plan)
      : problem_(problem),
        plan_(plan),
        scratch_(scratch_of(problem, plan.floats(), own_)),
        head_dim_(problem.q.head_dim) {}

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
      const Worker worker = worker_of_thread();
      const RunningSoftmax total = state(plan_.states_per_thread() * thread_index()),
                           part = total.after(plan_.sizes().state_floats());
      worker.gather(tile, 1);
      worker.add_split(tile, 0, 1, 0, total);
      for (int64_t split = 1; split * kKeySplit < tile.keys; ++split) {
        worker.add_split(tile, 0, 1, split, part);
        merge(total, part, tile.queries * plan_.tiles().group(), head_dim_, Worker::kShiftUnit);
      }
      write_output(problem_, tile, total.out, total.sum);
    });
  }

  // Every segment is one tile per kv head, so that tiles of consecutive heads have consecutive indices.
  void run_windows() {
    const int64_t heads = problem_.k.heads, per_task = plan_.sizes().heads_per_task,
                  parts = divide_up(heads, per_task);
    parallel_for(plan_.tiles().count() / heads * parts, [&](int64_t task) {
      const int64_t head = task % parts * per_task, count = std::min(per_task, heads - head);
      const QueryTile tile = plan_.tiles()[task / parts * heads + head];
      const Worker worker = worker_of_thread();
      constexpr int64_t kAtOnce = Worker::kWindowHeadsAtOnce;
      const RunningSoftmax states = state(plan_.states_per_thread() * thread_index());
      worker.gather(tile, count);
      for (int64_t first = 0; first < count; first += kAtOnce) {
        const int64_t now = std::min(kAtOnce, count - first);
        worker.add_split(tile, first, now, 0, states);
        for (int64_t h = 0; h < now; ++h) {
          const RunningSoftmax done = states.after(h * plan_.sizes().state_floats());
          QueryTile of_head = tile;
          of_head.kv_head += first + h;
          write_output(problem_, of_head, done.out, done.sum);
        }
      }
    });
  }

  // One tile per kv head: tasks are splits, a bounded number of them at a time.
  void run_splits() {
    const int64_t heads = problem_.k.heads, per_task = plan_.sizes().heads_per_task,
                  parts = divide_up(heads, per_task);
    for (int64_t first = 0; first < plan_.splits_max(); first += plan_.splits_at_once()) {
      const int64_t now = std::min(plan_.splits_at_once(), plan_.splits_max() - first);
      parallel_for(now * parts, [&](int64_t task) {
        const int64_t split = task / parts, head = task % parts * per_task;
        const int64_t count = std::min(per_task, heads - head);
        const Worker worker = worker_of_thread();
        const QueryTile tile = plan_.tiles()[head];
        worker.gather(tile, count);
        worker.add_split(tile, 0, count, first + split, state(split * heads + head));
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
    for (int64_t split = 0; split < count; ++split) {
      merge(total, state(split * heads + head), rows, head_dim_, Worker::kShiftUnit);
    }
    if (first + count == plan_.splits_max()) write_output(problem_, tile, total.out, total.sum);
  }

  Worker worker_of_thread() {
    return Worker(problem_, plan_.sizes(), scratch_ + thread_index() * plan_.worker_floats());
  }

  RunningSoftmax state(int64_t slot) {
    float* begin = scratch_ + threads() * plan_.worker_floats() + slot * plan_.sizes().state_floats();
    return {begin, begin + plan_.sizes().rows, begin + 2 * plan_.sizes().rows};
  }

  const AttentionProblem& problem_;
  const FlashPlan& plan_;
  Buffer<float> own_;
  float* scratch_;
  int64_t head_dim_;
};

}  // namespace

void flash_attention_2(const AttentionProblem& problem) {
  check_problem(problem);
  if (problem.q.tokens == 0) return;
  const FlashPlan plan(problem);
  if (plan.bf16()) return FlashCall<FlashWorkerBf16>(problem, plan).run();
  FlashCall<FlashWorkerF32>(problem, plan).run();
}

int64_t flash_scratch_bytes(const AttentionProblem& problem) {
  return FlashPlan(problem).floats() * int64_t{sizeof(float)};
}

}  // namespace fovea
