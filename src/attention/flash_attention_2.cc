// FlashAttention-2 (Dao 2023) on CPU tiles: online softmax, no buffer that grows with the number of tokens.
// Scores, running maximum, running sum and output are f32; the sum takes the unrounded exponentials while the
// product with V takes them rounded to precision.probabilities, as flash-attention's softmax.h does.
#include <algorithm>
#include <vector>

#include "attention/flash_worker.h"
#include "attention/implementations.h"
#include "attention/rows.h"

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
  return std::clamp(problem.q.tokens * problem.q.heads / (4 * problem.context.threads()), kTileRowsMin,
                    kTileRowsMax);
}

// What a task is: a query tile with all its keys; some heads of a short segment; one split of some heads.
enum class Way { tiles, windows, splits };

// How the work of one call is cut and its scratch laid out, in floats.
class FlashPlan {
 public:
  explicit FlashPlan(const AttentionProblem& problem)
      : problem_(problem), tiles_(problem, rows_wanted(problem)), bf16_(FlashWorkerBf16::takes(problem)) {
    sizes_ = {round_up(tiles_.rows_max(), FlashSizes::kRowPadding), tiles_.group(), problem.q.head_dim, 1};
    splits_max_ = divide_up(tiles_.keys_max(), kKeySplit);
    const int64_t heads = problem.k.heads;
    if (problem.cu_seqlens.empty() && problem.q.tokens * tiles_.group() <= kNarrowRows && splits_max_ > 1) {
      way_ = Way::splits;
      const int64_t threads = problem.context.threads();
      const int64_t parts = std::clamp<int64_t>(divide_up(2 * threads, splits_max_), 1, heads);
      sizes_.heads_per_task = std::min(divide_up(heads, parts), kSplitHeadsMax);
      splits_at_once_ = std::min(splits_max_, divide_up(kSplitsPerThread * threads, parts));
    } else if (!problem.cu_seqlens.empty() &&
               tiles_.keys_max() <= std::min(kWindowKeys, tiles_.rows_max() / tiles_.group())) {
      way_ = Way::windows;
      sizes_.heads_per_task =
          std::min(heads, bf16_ ? FlashWorkerBf16::kWindowHeads : FlashWorkerF32::kWindowHeads);
      states_per_thread_ = bf16_ ? FlashWorkerBf16::kWindowHeadsAtOnce : FlashWorkerF32::kWindowHeadsAtOnce;
    }
    worker_floats_ = bf16_ ? FlashWorkerBf16::scratch_floats(sizes_) : FlashWorkerF32::scratch_floats(sizes_);
  }

  const AttentionProblem& problem() const { return problem_; }
  const QueryTiles& tiles() const { return tiles_; }
  bool bf16() const { return bf16_; }
  const FlashSizes& sizes() const { return sizes_; }
  int64_t splits_max() const { return splits_max_; }
  int64_t splits_at_once() const { return splits_at_once_; }
  Way way() const { return way_; }

  // Scratch of a thread while it works on this problem: the worker's, then the states of its tile.
  int64_t worker_floats() const { return worker_floats_; }
  int64_t thread_floats() const {
    return worker_floats_ + (way_ == Way::splits ? 0 : states_per_thread_ * sizes_.state_floats());
  }
  // Scratch that lives as long as the call: the states of splits, and of all splits so far, of each head.
  int64_t own_floats() const {
    return way_ == Way::splits ? problem_.k.heads * (splits_at_once_ + 1) * sizes_.state_floats() : 0;
  }

  // Tasks come in rounds: all of them in the first, but splits, of which a bounded number is done at a time.
  int64_t splits_in(int64_t round) const {
    return std::clamp<int64_t>(splits_max_ - round * splits_at_once_, 0, splits_at_once_);
  }
  int64_t tasks_in(int64_t round) const {
    if (way_ == Way::splits) return splits_in(round) * parts();
    if (round > 0) return 0;
    return way_ == Way::tiles ? tiles_.count() : tiles_.count() / problem_.k.heads * parts();
  }
  int64_t merges_in(int64_t round) const {
    return way_ == Way::splits && splits_in(round) > 0 ? problem_.k.heads : 0;
  }
  // How many tasks share the heads of a segment or a split.
  int64_t parts() const { return divide_up(problem_.k.heads, sizes_.heads_per_task); }

 private:
  const AttentionProblem& problem_;
  QueryTiles tiles_;
  bool bf16_;
  FlashSizes sizes_;
  int64_t worker_floats_, splits_max_, splits_at_once_ = 1;
  int64_t states_per_thread_ = 2;  // of a tile: all splits so far, and one
  Way way_ = Way::tiles;
};

// total = total + part, row by row, with shifts in `unit`. Rows that saw no key in `part` stay as they are,
// bit for bit.
void merge(const Kernels& kernels, const RunningSoftmax& total, const RunningSoftmax& part, int64_t rows,
           int64_t head_dim, float unit) {
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
    kernels.exp_sum(keep, kRows, unit, 0.f);
    kernels.exp_sum(add, kRows, unit, 0.f);
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

// The scratch of a call: a part for each thread, whatever problem it works on, then one for each problem.
struct FlashScratch {
  explicit FlashScratch(std::span<const FlashPlan> plans) {
    for (const FlashPlan& plan : plans) {
      of_thread = std::max(of_thread, plan.thread_floats());
      floats += plan.own_floats();
    }
    if (!plans.empty()) floats += plans.front().problem().context.threads() * of_thread;
  }

  int64_t of_thread = 0, floats = 0;
};

// One task, or one merge, of a problem: its number there, and where the problem's own scratch begins.
struct FlashTask {
  const FlashPlan* plan;
  int64_t number, round;
  float* own;

  RunningSoftmax state(int64_t slot) const {
    const FlashSizes& sizes = plan->sizes();
    float* begin = own + slot * sizes.state_floats();
    return {begin, begin + sizes.rows, begin + 2 * sizes.rows};
  }
};

// A tile with all its keys.
template <typename Worker>
void run_tile(const FlashTask& task, float* scratch) {
  const FlashPlan& plan = *task.plan;
  const AttentionProblem& problem = plan.problem();
  const QueryTile tile = plan.tiles()[task.number];
  const Worker worker(problem, plan.sizes(), scratch);
  const FlashTask of_thread{&plan, 0, 0, scratch + plan.worker_floats()};
  const RunningSoftmax total = of_thread.state(0), part = of_thread.state(1);
  worker.gather(tile, 1);
  worker.add_split(tile, 0, 1, 0, total);
  for (int64_t split = 1; split * kKeySplit < tile.keys; ++split) {
    worker.add_split(tile, 0, 1, split, part);
    merge(*problem.context.kernels, total, part, tile.queries * plan.tiles().group(), problem.q.head_dim,
          Worker::kShiftUnit);
  }
  write_output(problem, tile, total.out, total.sum);
}

// Some heads of a segment. Every segment is one tile per kv head, so that tiles of consecutive heads have
// consecutive indices.
template <typename Worker>
void run_window(const FlashTask& task, float* scratch) {
  const FlashPlan& plan = *task.plan;
  const AttentionProblem& problem = plan.problem();
  const int64_t heads = problem.k.heads, per_task = plan.sizes().heads_per_task;
  const int64_t head = task.number % plan.parts() * per_task, count = std::min(per_task, heads - head);
  const QueryTile tile = plan.tiles()[task.number / plan.parts() * heads + head];
  const Worker worker(problem, plan.sizes(), scratch);
  const FlashTask of_thread{&plan, 0, 0, scratch + plan.worker_floats()};
  worker.gather(tile, count);
  for (int64_t first = 0; first < count; first += Worker::kWindowHeadsAtOnce) {
    const int64_t now = std::min(Worker::kWindowHeadsAtOnce, count - first);
    worker.add_split(tile, first, now, 0, of_thread.state(0));
    for (int64_t h = 0; h < now; ++h) {
      const RunningSoftmax done = of_thread.state(h);
      QueryTile of_head = tile;
      of_head.kv_head += first + h;
      write_output(problem, of_head, done.out, done.sum);
    }
  }
}

// One split of some heads, each of which is one tile.
template <typename Worker>
void run_split(const FlashTask& task, float* scratch) {
  const FlashPlan& plan = *task.plan;
  const int64_t heads = plan.problem().k.heads, per_task = plan.sizes().heads_per_task;
  const int64_t split = task.number / plan.parts(), head = task.number % plan.parts() * per_task;
  const int64_t count = std::min(per_task, heads - head);
  const Worker worker(plan.problem(), plan.sizes(), scratch);
  const QueryTile tile = plan.tiles()[head];
  worker.gather(tile, count);
  worker.add_split(tile, 0, count, task.round * plan.splits_at_once() + split,
                   task.state(split * heads + head));
}

// The splits of a round, just computed, join the total of one head.
template <typename Worker>
void merge_splits(const FlashTask& task) {
  const FlashPlan& plan = *task.plan;
  const AttentionProblem& problem = plan.problem();
  const int64_t head = task.number, heads = problem.k.heads, head_dim = problem.q.head_dim;
  const QueryTile tile = plan.tiles()[head];
  const int64_t rows = tile.queries * plan.tiles().group();
  const RunningSoftmax total = task.state(plan.splits_at_once() * heads + head);
  if (task.round == 0) total.clear(rows, head_dim);
  for (int64_t split = 0; split < plan.splits_in(task.round); ++split) {
    merge(*problem.context.kernels, total, task.state(split * heads + head), rows, head_dim,
          Worker::kShiftUnit);
  }
  if (plan.splits_in(task.round + 1) == 0) write_output(problem, tile, total.out, total.sum);
}

// Tasks of all problems as one list. Whatever the way and the company, a head's splits are merged in the same
// order.
template <typename Worker>
class FlashCall {
 public:
  explicit FlashCall(std::span<const FlashPlan> plans)
      : plans_(plans), sizes_(plans), scratch_(scratch_of(plans.front().problem(), sizes_.floats, own_)) {}

  void run() {
    for (int64_t round = 0; for_each(round, &FlashPlan::tasks_in,
                                     [this](const FlashTask& t, int worker) { compute(t, worker); });
         ++round) {
      for_each(round, &FlashPlan::merges_in, [](const FlashTask& t, int) { merge_splits<Worker>(t); });
    }
  }

 private:
  using CountIn = int64_t (FlashPlan::*)(int64_t round) const;

  const Context& context() const { return plans_.front().problem().context; }

  void compute(const FlashTask& task, int worker) const {
    float* scratch = scratch_ + worker * sizes_.of_thread;
    switch (task.plan->way()) {
      case Way::tiles:
        return run_tile<Worker>(task, scratch);
      case Way::windows:
        return run_window<Worker>(task, scratch);
      case Way::splits:
        return run_split<Worker>(task, scratch);
    }
  }

  // Whether there was any.
  template <typename Body>
  bool for_each(int64_t round, CountIn count_in, Body body) {
    int64_t count = 0;
    for (const FlashPlan& plan : plans_) count += (plan.*count_in)(round);
    context().parallel_for(
        count, [&](int64_t number, int worker) { body(task_at(number, round, count_in), worker); });
    return count > 0;
  }

  FlashTask task_at(int64_t number, int64_t round, CountIn count_in) const {
    float* own = scratch_ + context().threads() * sizes_.of_thread;
    const FlashPlan* plan = plans_.data();
    for (int64_t count = 0; number >= (count = (plan->*count_in)(round)); ++plan) {
      number -= count;
      own += plan->own_floats();
    }
    return {plan, number, round, own};
  }

  std::span<const FlashPlan> plans_;
  FlashScratch sizes_;
  Buffer<float> own_;
  float* scratch_;
};

void run(std::span<const FlashPlan> plans) {
  if (plans.front().bf16()) return FlashCall<FlashWorkerBf16>(plans).run();
  FlashCall<FlashWorkerF32>(plans).run();
}

std::vector<FlashPlan> plans_of(std::span<const AttentionProblem> problems) {
  std::vector<FlashPlan> plans;
  plans.reserve(problems.size());
  for (const AttentionProblem& problem : problems) {
    if (problem.q.tokens > 0) plans.emplace_back(problem);
  }
  return plans;
}

}  // namespace

void flash_attention_2(const AttentionProblem& problem) {
  check_problem(problem);
  if (problem.q.tokens == 0) return;
  const FlashPlan plan(problem);  // no list: one problem allocates nothing
  run({&plan, 1});
}

void flash_attention_2(std::span<const AttentionProblem> problems) {
  for (const AttentionProblem& problem : problems) check_problem(problem);
  const std::vector<FlashPlan> plans = plans_of(problems);
  if (plans.empty()) return;
  for (const FlashPlan& plan : plans) FOVEA_CHECK(plan.bf16() == plans.front().bf16());
  run(plans);
}

int64_t flash_scratch_bytes(std::span<const AttentionProblem> problems) {
  const std::vector<FlashPlan> plans = plans_of(problems);
  return FlashScratch(plans).floats * int64_t{sizeof(float)};
}

}  // namespace fovea
