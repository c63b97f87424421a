#include "model/vision_pass.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/rounding.h"
#include "model/elementwise.h"
#include "model/non_finite.h"
#include "model/vision_pieces.h"
#include "model/vision_state.h"
#include "model/window_index.h"

namespace fovea {

namespace {

constexpr float kNormEps = 1e-6f;  // fixed in the reference, not a config field
constexpr int64_t kRowsPerPass = VisionTower::kRowsPerPass;

// A tensor of [rows, width] in the type of its node: attention reads keys and values again for every tile of
// queries, half the bytes where they have 16 bits.
class Kept {
 public:
  void reserve(DType node, int64_t rows, int64_t width) {
    type_ = VisionTower::kept_type(node);
    width_ = width;
    rows_.reserve(rows * width * static_cast<int64_t>(bytes_of(type_)));
  }
  // Rounded, if need be.
  void store(const Kernels& kernels, int64_t row, const float* x) {
    char* to = rows_.data() + row * width_ * static_cast<int64_t>(bytes_of(type_));
    narrow_row(kernels, x, width_, type_, to);
  }
  HeadsView view(int64_t rows, int64_t heads, DType node) const {
    return {rows_.data(), type_, rows, heads, width_ / heads, width_, node};
  }

 private:
  DType type_ = DType::f32;
  int64_t width_ = 0;
  Buffer<char> rows_;
};

struct VisionScratch {
  Kept q, k, v;
  Buffer<float> narrow, gate, up, key_norms;
  ProductScratch products;

  // From rows of q, k and v side by side, those from `first` on.
  void keep(const Context& context, int64_t first, const float* qkv, int64_t count, int64_t width) {
    constexpr int64_t kRowsPerTask = 8;
    context.parallel_for(divide_up(count, kRowsPerTask), [&](int64_t task) {
      for (int64_t r = task * kRowsPerTask; r < std::min(count, (task + 1) * kRowsPerTask); ++r) {
        const float* row = qkv + r * 3 * width;
        q.store(*context.kernels, first + r, row);
        k.store(*context.kernels, first + r, row + width);
        v.store(*context.kernels, first + r, row + 2 * width);
      }
    });
  }
};

// The guard's view of a block. Without a mask a query sees every key of its segment: the largest |k| of each.
AttentionGuard guard_of(GuardReport& report, size_t index, AttentionKind kind,
                        const AttentionProblem& problem, Buffer<float>& norms) {
  AttentionGuard guard{report.options, report.vision[index].data(), nullptr};
  if (kind == AttentionKind::eager) return guard;
  const int64_t heads = problem.k.heads;
  norms.reserve(problem.k.tokens * heads);
  key_norms(problem.context, problem.k, norms.data());
  for (size_t s = 1; s < problem.cu_seqlens.size(); ++s) {
    for (int64_t h = 0; h < heads; ++h) {
      float largest = 0;
      for (int64_t t = problem.cu_seqlens[s - 1]; t < problem.cu_seqlens[s]; ++t) {
        largest = std::max(largest, norms.data()[t * heads + h]);
      }
      for (int64_t t = problem.cu_seqlens[s - 1]; t < problem.cu_seqlens[s]; ++t) {
        norms.data()[t * heads + h] = largest;
      }
    }
  }
  guard.key_norms = norms.data();
  return guard;
}

RopeTable rope_table(const WindowOrder& order, const VisionConfig& config, const TowerPrecision& nodes) {
  const int64_t pairs = config.head_dim() / 2;
  // Half of the rotary pairs follow y, half follow x; theta is fixed in the reference.
  const std::vector<double> inverse = inverse_frequencies(10000.0, pairs, nodes.rope_angles);
  const auto rows = static_cast<int64_t>(order.patch_y.size());
  RopeTable table{std::vector<float>(static_cast<size_t>(rows * pairs)),
                  std::vector<float>(static_cast<size_t>(rows * pairs)), pairs};
  std::vector<double> angles(static_cast<size_t>(pairs));
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t y = order.patch_y[static_cast<size_t>(r)], x = order.patch_x[static_cast<size_t>(r)];
    for (size_t i = 0; i < inverse.size(); ++i) {
      angles[i] = rope_angle(y, inverse[i], nodes.rope_angles);
      angles[inverse.size() + i] = rope_angle(x, inverse[i], nodes.rope_angles);
    }
    set_rope_row(table, r, angles, nodes.rope_tables);
  }
  return table;
}

// What a stage works on: all rows in passes of kRowsPerPass, or attention in pieces of its own.
enum class Stage { embed, project, attend, output, mlp, merge };

struct Span {
  int64_t first, count;
};

}  // namespace

struct VisionPass::State {
  State(const VisionTower::State& tower_, const float* patches_, const Grid& grid, ForwardHooks hooks_);

  const VisionTower::State& tower;
  const VisionConfig& config;
  const float* patches;
  ForwardHooks hooks;
  WindowOrder order;
  int64_t rows, tokens, width;
  std::vector<VisionPiece> window_pieces, frame_pieces;
  int64_t pieces = 0, done = 0;
  // Where the work stands: the next piece of a stage, of a block.
  Stage stage = Stage::embed;
  size_t block = 0;
  int64_t at = 0;

  RopeTable rope;
  const TowerPrecision* rope_of = nullptr;  // tables are kept while blocks ask for the same
  VisionScratch scratch;
  Buffer<float> hidden, ordered, projected, result;
  AttentionProblem problem;  // of the block
  AttentionGuard watch;
  std::optional<WeightLease> lease;

  const Context& context() const { return tower.context(); }
  const VisionBlock& now() const { return tower.blocks[block]; }
  const std::vector<VisionPiece>& attention_pieces() const {
    return now().full_attention ? frame_pieces : window_pieces;
  }
  Span pass(int64_t of) const { return {at * kRowsPerPass, std::min(kRowsPerPass, of - at * kRowsPerPass)}; }
  int64_t pieces_in_stage() const;
  void begin_stage();
  void compute();
  void end_stage();
  void take(int64_t group, const TowerPrecision& nodes);
  void begin_block();
  void pose();
  void embed(const Span& span);
  void project(const Span& span);
  void attend_piece();
  void output(const Span& span);
  void mlp(const Span& span);
  void merge(const Span& span);
};

VisionPass::State::State(const VisionTower::State& tower_, const float* patches_, const Grid& grid,
                         ForwardHooks hooks_)
    : tower(tower_),
      config(tower_.config),
      patches(patches_),
      hooks(std::move(hooks_)),
      order(window_order(grid, tower_.config)),
      rows(std::ssize(order.patch_y)),
      tokens(std::ssize(order.merged_from)),
      width(tower_.config.hidden_size),
      window_pieces(vision_pieces(order.window_bounds, rows_of_vision_piece(tower_.context().threads()))),
      frame_pieces(vision_pieces(order.frame_bounds, rows_of_vision_piece(tower_.context().threads()))) {}

int64_t VisionPass::State::pieces_in_stage() const {
  if (stage == Stage::attend) return std::ssize(attention_pieces());
  return divide_up(stage == Stage::merge ? tokens : rows, kRowsPerPass);
}

// A lease is held as long as pieces want the same weights.
void VisionPass::State::take(int64_t group, const TowerPrecision& nodes) {
  lease.reset();
  lease.emplace(tower.store.use(group, nodes.weights, hooks.while_waiting));
}

void VisionPass::State::begin_stage() {
  const WeightGroups& groups = tower.store.groups();
  switch (stage) {
    case Stage::embed:
      take(groups.patch_embed(), tower.precision);
      hidden.resize(rows * width);
      ordered.resize(std::min(rows, kRowsPerPass) * config.patch_dim());
      return;
    case Stage::project:
      return begin_block();
    case Stage::attend:
      return pose();
    case Stage::output:
      return;
    case Stage::mlp:
      scratch.gate.reserve(std::min(rows, kRowsPerPass) * std::max(config.intermediate_size, width));
      return scratch.up.reserve(std::min(rows, kRowsPerPass) * config.intermediate_size);
    case Stage::merge:
      take(groups.merger(), tower.precision);
      const int64_t merge_area = config.spatial_merge_size * config.spatial_merge_size,
                    inner = width * merge_area, most = std::min(tokens, kRowsPerPass);
      result.resize(tokens * config.out_hidden_size);
      projected.resize(most * config.out_hidden_size);
      scratch.gate.reserve(most * inner);
      return scratch.up.reserve(most * inner);
  }
}

void VisionPass::State::begin_block() {
  const TowerPrecision& nodes = now().precision;
  if (rope_of == nullptr || rope_of->rope_angles != nodes.rope_angles ||
      rope_of->rope_tables != nodes.rope_tables) {
    rope = rope_table(order, config, nodes);
    rope_of = &nodes;
  }
  take(tower.store.groups().block(static_cast<int64_t>(block)), nodes);
  scratch.narrow.reserve(rows * width);
  scratch.gate.reserve(std::min(rows, kRowsPerPass) * 3 * width);
  scratch.q.reserve(DType::f32, rows, width);  // what attention takes
  scratch.k.reserve(nodes.k, rows, width);
  scratch.v.reserve(nodes.v, rows, width);
}

// The attention of the whole block, whose pieces are taken one by one.
void VisionPass::State::pose() {
  const TowerPrecision& nodes = now().precision;
  const int64_t heads = config.num_heads;
  problem = {};
  problem.context = context();
  problem.q = scratch.q.view(rows, heads, nodes.q);
  problem.k = scratch.k.view(rows, heads, nodes.k);
  problem.v = scratch.v.view(rows, heads, nodes.v);
  problem.out = scratch.narrow.data();
  problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim())));
  problem.cu_seqlens = now().full_attention ? order.frame_bounds : order.window_bounds;
  problem.precision = nodes.attention;
  if (hooks.guard == nullptr) return;
  watch = guard_of(*hooks.guard, block, nodes.kind, problem, scratch.key_norms);
  problem.guard = &watch;
}

void VisionPass::State::compute() {
  switch (stage) {
    case Stage::embed:
      return embed(pass(rows));
    case Stage::project:
      return project(pass(rows));
    case Stage::attend:
      return attend_piece();
    case Stage::output:
      return output(pass(rows));
    case Stage::mlp:
      return mlp(pass(rows));
    case Stage::merge:
      return merge(pass(tokens));
  }
}

void VisionPass::State::end_stage() {
  const auto index = static_cast<int64_t>(block);
  at = 0;
  switch (stage) {
    case Stage::embed:
      ordered = {};
      require_finite(tower.kernels(), hidden.data(), hidden.size(), "the patch embedding");
      stage = tower.blocks.empty() ? Stage::merge : Stage::project;
      return;
    case Stage::project:
      stage = Stage::attend;
      return;
    case Stage::attend:
      if (hooks.layers) hooks.layers->attended(ModelPart::vision, index, problem);
      stage = Stage::output;
      return;
    case Stage::output:
      stage = Stage::mlp;
      return;
    case Stage::mlp:
      if (hooks.layers) hooks.layers->finished(ModelPart::vision, index, hidden.data(), rows, width);
      stage = ++block == tower.blocks.size() ? Stage::merge : Stage::project;
      if (hooks.after_layer) hooks.after_layer();
      return;
    case Stage::merge:
      require_finite(tower.kernels(), result.data(), result.size(), "the vision merger");
      lease.reset();
      return;
  }
}

// Patch embedding, with the rows brought into window order on the way in.
void VisionPass::State::embed(const Span& span) {
  const int64_t merge_area = config.spatial_merge_size * config.spatial_merge_size, dim = config.patch_dim();
  for (int64_t r = 0; r < span.count; ++r) {
    const int64_t place = span.first + r;
    const int64_t from =
        order.merged_from[static_cast<size_t>(place / merge_area)] * merge_area + place % merge_area;
    std::copy_n(patches + from * dim, dim, ordered.data() + r * dim);
  }
  round_to(context(), ordered.data(), span.count * dim, tower.precision.weights);
  tower.patch_embed.apply(context(), scratch.products, ordered.data(), span.count,
                          hidden.data() + span.first * width);
}

void VisionPass::State::project(const Span& span) {
  const TowerPrecision& nodes = now().precision;
  const int64_t heads = config.num_heads, stride = 3 * width;
  rms_norm(context(), hidden.data() + span.first * width, now().norm1, kNormEps, nodes.norm,
           scratch.narrow.data(), span.count, nodes.norm_statistics);
  float* qkv = scratch.gate.data();
  now().qkv.apply(context(), scratch.products, scratch.narrow.data(), span.count, qkv);
  apply_rope(context(), qkv, span.first, span.count, heads, stride, rope, nodes.rope_steps, nodes.q);
  apply_rope(context(), qkv + width, span.first, span.count, heads, stride, rope, nodes.rope_steps, nodes.k);
  scratch.keep(context(), span.first, qkv, span.count, width);
}

void VisionPass::State::attend_piece() {
  const VisionPiece& piece = attention_pieces()[static_cast<size_t>(at)];
  std::vector<int64_t> bounds;
  AttentionProblem part = problem_of_piece(problem, piece, bounds);
  AttentionGuard of_part;
  if (problem.guard != nullptr) {
    of_part = *problem.guard;
    if (of_part.key_norms != nullptr) of_part.key_norms += piece.first_row * config.num_heads;
    part.guard = &of_part;
  }
  attend(now().precision.kind, part);
}

void VisionPass::State::output(const Span& span) {
  const TowerPrecision& nodes = now().precision;
  const int64_t values = span.count * width;
  now().proj.apply(context(), scratch.products, scratch.narrow.data() + span.first * width, span.count,
                   scratch.gate.data());
  if (add_residual(context(), hidden.data() + span.first * width, scratch.gate.data(), values,
                   nodes.residual))
    return;
  refuse_attention({"vision", "vision block", static_cast<int64_t>(block)}, nodes,
                   {problem, nullptr, 0, scratch.gate.data(), values});
}

void VisionPass::State::mlp(const Span& span) {
  const VisionBlock& weights = now();
  const TowerPrecision& nodes = weights.precision;
  const int64_t inner = config.intermediate_size, values = span.count * width;
  float *normed = scratch.narrow.data(), *gate = scratch.gate.data(), *up = scratch.up.data();
  rms_norm(context(), hidden.data() + span.first * width, weights.norm2, kNormEps, nodes.norm, normed,
           span.count, nodes.norm_statistics);
  const Projection both[] = {{&weights.gate, gate, inner}, {&weights.up, up, inner}};
  Linear::apply_all(context(), scratch.products, both, normed, span.count);
  silu_times(context(), gate, up, span.count * inner, nodes.mlp);
  weights.down.apply(context(), scratch.products, gate, span.count, normed);
  if (add_residual(context(), hidden.data() + span.first * width, normed, values, nodes.residual)) return;
  refuse_mlp(tower.kernels(), {"vision", "vision block", static_cast<int64_t>(block)}, nodes,
             {gate, up, normed, span.count * inner, values});
}

// RMSNorm, four patches side by side, two projections with GELU between; back from window order to raster
// order.
void VisionPass::State::merge(const Span& span) {
  const TowerPrecision& nodes = tower.precision;
  const int64_t merge_area = config.spatial_merge_size * config.spatial_merge_size,
                inner = width * merge_area, out = config.out_hidden_size;
  rms_norm(context(), hidden.data() + span.first * inner, tower.merge_norm, kNormEps, nodes.norm,
           scratch.gate.data(), span.count * merge_area, nodes.norm_statistics);
  tower.merge_in.apply(context(), scratch.products, scratch.gate.data(), span.count, scratch.up.data());
  gelu(context(), scratch.up.data(), span.count * inner, nodes.mlp);
  tower.merge_out.apply(context(), scratch.products, scratch.up.data(), span.count, projected.data());
  for (int64_t r = 0; r < span.count; ++r) {
    const int64_t to = order.merged_from[static_cast<size_t>(span.first + r)];
    std::copy_n(projected.data() + r * out, out, result.data() + to * out);
  }
}

VisionPass::VisionPass(const VisionTower& tower, const float* patches, const Grid& grid, ForwardHooks hooks)
    : state_(std::make_unique<State>(*tower.state_, patches, grid, std::move(hooks))) {
  State& s = *state_;
  const int64_t passes = divide_up(s.rows, kRowsPerPass);
  s.pieces = passes + divide_up(s.tokens, kRowsPerPass);
  for (const VisionBlock& block : s.tower.blocks) {
    s.pieces += 3 * passes + std::ssize(block.full_attention ? s.frame_pieces : s.window_pieces);
  }
}
VisionPass::VisionPass(VisionPass&&) noexcept = default;
VisionPass& VisionPass::operator=(VisionPass&&) noexcept = default;
VisionPass::~VisionPass() = default;

int64_t VisionPass::pieces() const { return state_->pieces; }
int64_t VisionPass::done() const { return state_->done; }

void VisionPass::advance(int64_t count) {
  State& s = *state_;
  for (; count > 0 && s.done < s.pieces; --count) {
    if (s.at == 0) s.begin_stage();
    s.compute();
    ++s.done;
    if (++s.at == s.pieces_in_stage()) s.end_stage();
  }
}

Buffer<float> VisionPass::embeddings() {
  FOVEA_CHECK(state_->done == state_->pieces);
  return std::move(state_->result);
}

}  // namespace fovea
