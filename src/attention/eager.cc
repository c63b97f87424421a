// transformers' eager attention (eager_attention_forward of 4.57), rounding at every node it stores:
//   S = r(q.k), S = r(S * scale), S = r(S + M), P = r(softmax_f32(S)), O = r(P.v), sums in f32,
// and its relatives, whose nodes differ (AttentionPrecision says how).
// torch multiplies a 16-bit tensor by a python float in f32 with the float cast to f32, then rounds (checked
// bit for bit in torch 2.13). M is 0 or the lowest finite number of the scores' dtype, so in fp16 a masked
// score can become -inf or, far from zero, stay a number: that is reproduced, not repaired. Nodes are looked
// at once per row or tile, never per element. The scores of a whole segment exist for one kv head's query
// heads at a time (group * tokens_q * tokens_kv floats), or for several while they are small.
#include <algorithm>

#include "attention/eager_rows.h"
#include "attention/implementations.h"
#include "attention/rows.h"

namespace fovea {
namespace {

constexpr int64_t kBlockRows = 96;
// Units (one kv head of one segment) computed at the same time share this much scratch unless one needs more.
constexpr int64_t kBatchFloats = int64_t{1} << 20;

// One kv head of one segment: the scores of all its queries against all its keys, K and V in f32.
struct Unit {
  QueryTile block;  // every query and every key of the segment, visible or not
  float *scores, *k, *v;
  float* bias;  // [keys, head_dim], rotated; null without a key bias
};

class EagerPlan {
 public:
  explicit EagerPlan(const AttentionProblem& problem)
      : problem_(problem), group_(problem.q.heads / problem.k.heads), segments_(segment_count(problem)) {
    int64_t largest = 0, all = 0;
    for (int64_t index = 0; index < units(); ++index) {
      largest = std::max(largest, unit_floats(block_of(index)));
      all += unit_floats(block_of(index));
      if (all > kBatchFloats) all = kBatchFloats;
    }
    batch_floats_ = std::max(largest, all);
    const int64_t rows = std::max(kBlockRows, group_);
    worker_floats_ = rows * (2 * problem.q.head_dim + 1);
    if (biased()) worker_floats_ += rows * score_stride({0, 0, 0, 0, QueryTiles(problem, 1).keys_max()});
  }

  int64_t units() const { return segments_ * problem_.k.heads; }
  int64_t batch_floats() const { return batch_floats_; }
  int64_t worker_floats() const { return worker_floats_; }
  int64_t floats() const { return batch_floats_ + problem_.context.threads() * worker_floats_; }
  int64_t group() const { return group_; }
  // 16 more than needed: rows a multiple of 4 KiB apart would share one cache set.
  static int64_t score_stride(const QueryTile& block) { return round_up(block.keys, kKeyTile) + 16; }

  QueryTile block_of(int64_t index) const {
    const auto segment = static_cast<size_t>(index / problem_.k.heads);
    const int64_t head = index % problem_.k.heads;
    if (problem_.cu_seqlens.empty()) return {head, 0, problem_.q.tokens, 0, problem_.k.tokens};
    const int64_t begin = problem_.cu_seqlens[segment], count = problem_.cu_seqlens[segment + 1] - begin;
    return {head, begin, count, begin, count};
  }

  int64_t unit_floats(const QueryTile& block) const {
    return score_floats(block) + (biased() ? 3 : 2) * kv_floats(block);
  }

  Unit unit_at(int64_t index, float* scratch) const {
    const QueryTile block = block_of(index);
    float* k = scratch + score_floats(block);
    float* v = k + kv_floats(block);
    return {block, scratch, k, v, biased() ? v + kv_floats(block) : nullptr};
  }

 private:
  bool biased() const { return problem_.key_bias.present(); }
  int64_t score_floats(const QueryTile& block) const { return block.queries * group_ * score_stride(block); }
  int64_t kv_floats(const QueryTile& block) const { return block.keys * problem_.q.head_dim; }

  const AttentionProblem& problem_;
  int64_t group_, segments_, batch_floats_, worker_floats_;
};

class EagerCall {
 public:
  explicit EagerCall(const AttentionProblem& problem)
      : problem_(problem),
        nodes_(problem.precision),
        line_(problem),
        plan_(problem),
        scratch_(plan_.floats()),
        head_dim_(problem.q.head_dim) {}

  void run() {
    for (int64_t first = 0; first < plan_.units();) {
      batch_.clear();
      for (int64_t used = 0; first < plan_.units(); ++first) {
        const int64_t size = plan_.unit_floats(plan_.block_of(first));
        if (used + size > plan_.batch_floats()) break;
        batch_.push_back(plan_.unit_at(first, scratch_.data() + used));
        used += size;
      }
      run_batch();
    }
  }

 private:
  void run_batch() {
    int64_t blocks_max = 0, key_tiles_max = 0;
    for (const Unit& unit : batch_) {
      blocks_max = std::max(blocks_max, divide_up(unit.block.queries, queries_per_block()));
      key_tiles_max = std::max(key_tiles_max, divide_up(unit.block.keys, kKeyTile));
    }
    const auto units = static_cast<int64_t>(batch_.size());
    problem_.context.parallel_for(units * key_tiles_max, [&](int64_t task) {
      pack_keys(batch_[static_cast<size_t>(task / key_tiles_max)], task % key_tiles_max * kKeyTile);
    });
    problem_.context.parallel_for(units * blocks_max, [&](int64_t task, int worker) {
      attend_block(batch_[static_cast<size_t>(task / blocks_max)], task % blocks_max * queries_per_block(),
                   worker);
    });
  }

  int64_t queries_per_block() const { return std::max<int64_t>(1, kBlockRows / plan_.group()); }

  void pack_keys(const Unit& unit, int64_t first) const {
    const QueryTile& block = unit.block;
    if (first >= block.keys) return;
    const int64_t count = std::min(kKeyTile, block.keys - first), at = first * head_dim_;
    pack_rows(*problem_.context.kernels, problem_.k, block.kv_head, 1, block.first_key + first, count,
              unit.k + at);
    pack_rows(*problem_.context.kernels, problem_.v, block.kv_head, 1, block.first_key + first, count,
              unit.v + at);
    if (nodes_.scale == ScalePlacement::split) line_.scale_operand(unit.k + at, count * head_dim_);
    if (unit.bias == nullptr) return;
    std::fill_n(unit.bias + at, count * head_dim_, 0.f);
    const float factor = nodes_.scale == ScalePlacement::split ? line_.operand_factor() : 1.f;
    add_key_bias(problem_, block.kv_head, block.first_key + first, count, factor, unit.bias + at);
  }

  // All nodes for some queries of one unit, starting at the unit's query `first`.
  void attend_block(const Unit& unit, int64_t first, int worker) {
    if (first >= unit.block.queries) return;
    QueryTile tile = unit.block;
    tile.first_query += first;
    tile.queries = std::min(queries_per_block(), unit.block.queries - first);
    const int64_t rows = tile.queries * plan_.group(), stride = EagerPlan::score_stride(tile);
    float* q = scratch_.data() + plan_.batch_floats() + worker * plan_.worker_floats();
    float *out = q + rows * head_dim_, *sums = out + rows * head_dim_, *bias_scores = sums + rows;
    float* scores = unit.scores + first * plan_.group() * stride;

    gather_queries(problem_, tile, q);
    if (nodes_.scale == ScalePlacement::before || nodes_.scale == ScalePlacement::split) {
      line_.scale_operand(q, rows * head_dim_);
    }
    multiply_keys(tile, q, unit.k, scores);
    if (unit.bias != nullptr) add_bias_scores(unit, tile, q, bias_scores, scores);
    make_probabilities(tile, scores, sums);
    std::fill_n(out, rows * head_dim_, 0.f);
    for (int64_t key = 0; key < tile.keys; key += kKeyTile) {
      problem_.context.kernels->matmul_nn_f32(scores + key, stride, unit.v + key * head_dim_, head_dim_, out,
                                              head_dim_, rows, head_dim_,
                                              std::min(kKeyTile, tile.keys - key));
      round_to(*problem_.context.kernels, nodes_.pv, out, rows * head_dim_);
    }
    write_output(problem_, tile, out, sums);
  }

  // scores become P row by row, sums what P.V is to be divided by.
  void make_probabilities(const QueryTile& tile, float* scores, float* sums) const {
    const int64_t group = plan_.group(), stride = EagerPlan::score_stride(tile);
    std::vector<HeadGuard> seen(static_cast<size_t>(problem_.guard != nullptr ? group : 0));
    for (int64_t row = 0; row < tile.queries * group; ++row) {
      sums[row] = line_.to_probabilities(tile.first_query + row / group, tile.keys, scores + row * stride,
                                         seen.empty() ? nullptr : &seen[static_cast<size_t>(row % group)]);
    }
    for (size_t g = 0; g < seen.size(); ++g) {
      add_shared(problem_.guard->heads[tile.kv_head * group + static_cast<int64_t>(g)], seen[g]);
    }
  }

  // The key bias of a block's scores: q.R_j b less its largest over the keys a row sees, in f32.
  void add_bias_scores(const Unit& unit, const QueryTile& tile, const float* q, float* bias_scores,
                       float* scores) const {
    const int64_t rows = tile.queries * plan_.group(), stride = EagerPlan::score_stride(tile);
    multiply_keys(tile, q, unit.bias, bias_scores);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t query = tile.first_query + row / plan_.group();
      const int64_t visible = problem_.causal ? causal_keys(problem_, query) : tile.keys;
      const float *terms = bias_scores + row * stride,
                  highest = visible > 0 ? problem_.context.kernels->max_value(terms, visible) : 0.f;
      float* line = scores + row * stride;
      for (int64_t key = 0; key < tile.keys; ++key) line[key] += terms[key] - highest;
    }
  }

  // y = q . k^T for all keys of the tile's segment.
  void multiply_keys(const QueryTile& tile, const float* q, const float* k, float* y) const {
    const int64_t rows = tile.queries * plan_.group();
    for (int64_t key = 0; key < tile.keys; key += kKeyTile) {
      problem_.context.kernels->matmul_nt_f32(q, head_dim_, k + key * head_dim_, head_dim_, y + key,
                                              EagerPlan::score_stride(tile), rows,
                                              std::min(kKeyTile, tile.keys - key), head_dim_);
    }
  }

  const AttentionProblem& problem_;
  const AttentionPrecision nodes_;
  EagerRows line_;
  EagerPlan plan_;
  Buffer<float> scratch_;
  int64_t head_dim_;
  std::vector<Unit> batch_;
};

}  // namespace

void eager_attention(const AttentionProblem& problem) {
  check_problem(problem);
  if (problem.q.tokens > 0) EagerCall(problem).run();
}

int64_t eager_scratch_bytes(const AttentionProblem& problem) {
  return EagerPlan(problem).floats() * int64_t{sizeof(float)};
}

}  // namespace fovea
