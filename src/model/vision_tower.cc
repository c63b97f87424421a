#include "model/vision_tower.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "base/rounding.h"
#include "model/elementwise.h"
#include "model/linear.h"
#include "model/non_finite.h"
#include "model/window_index.h"

namespace fovea {

namespace {

constexpr float kNormEps = 1e-6f;  // fixed in the reference, not a config field
constexpr int64_t kRowsPerPass = VisionTower::kRowsPerPass;

struct Block {
  TowerPrecision precision;
  std::vector<float> norm1, norm2;
  Linear qkv, proj, gate, up, down;
  bool full_attention = false;
};

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
  void store(int64_t row, const float* x) {
    char* to = rows_.data() + row * width_ * static_cast<int64_t>(bytes_of(type_));
    narrow_row(x, width_, type_, to);
  }
  HeadsView view(int64_t rows, int64_t heads, DType node) const {
    return {rows_.data(), type_, rows, heads, width_ / heads, width_, node};
  }

 private:
  DType type_ = DType::f32;
  int64_t width_ = 0;
  Buffer<char> rows_;
};

struct Scratch {
  Kept q, k, v;
  Buffer<float> narrow, gate, up, key_norms;

  // From rows of q, k and v side by side, those from `first` on.
  void keep(int64_t first, const float* qkv, int64_t count, int64_t width) {
    constexpr int64_t kRowsPerTask = 8;
    parallel_for(divide_up(count, kRowsPerTask), [&](int64_t task) {
      for (int64_t r = task * kRowsPerTask; r < std::min(count, (task + 1) * kRowsPerTask); ++r) {
        const float* row = qkv + r * 3 * width;
        q.store(first + r, row);
        k.store(first + r, row + width);
        v.store(first + r, row + 2 * width);
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
  key_norms(problem.k, norms.data());
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

// Calls body(first, count) for consecutive passes over `rows`.
template <typename Body>
void for_passes(int64_t rows, Body body) {
  for (int64_t at = 0; at < rows; at += kRowsPerPass) body(at, std::min(kRowsPerPass, rows - at));
}

Block load_block(const WeightStore& store, int64_t index, const TowerPrecision& precision) {
  const std::string name = fmt::format("model.visual.blocks.{}.", index);
  const auto& full = store.checkpoint().config().vision.fullatt_block_indexes;
  const auto linear = [&](const char* part, DType input, DType output) {
    const bool mlp = std::string_view(part).starts_with("mlp.");
    return Linear(
        store, name + part,
        {precision.weights, input, output, mlp ? precision.mlp_quantization : precision.quantization});
  };
  Block block;
  block.precision = precision;
  block.norm1 = store.vector(name + "norm1.weight", precision.norm);
  block.norm2 = store.vector(name + "norm2.weight", precision.norm);
  block.qkv = linear("attn.qkv", precision.norm, precision.qkv);
  block.proj = linear("attn.proj", precision.attention.output, precision.linear);
  block.gate = linear("mlp.gate_proj", precision.norm, precision.linear);
  block.up = linear("mlp.up_proj", precision.norm, precision.linear);
  block.down = linear("mlp.down_proj", precision.mlp, precision.down_proj);
  block.full_attention = std::find(full.begin(), full.end(), index) != full.end();
  return block;
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

}  // namespace

struct VisionTower::State {
  explicit State(const WeightStore& weights) : store(weights) {}

  const WeightStore& store;
  VisionConfig config;
  TowerPrecision precision;  // of what belongs to no block
  Linear patch_embed, merge_in, merge_out;
  std::vector<float> merge_norm;
  std::vector<Block> blocks;

  WeightLease use(int64_t group, const TowerPrecision& nodes, const ForwardHooks& hooks) const {
    return store.use(group, nodes.weights, hooks.while_waiting);
  }
  Buffer<float> embed(const float* patches, const WindowOrder& order, const ForwardHooks& hooks) const;
  void attend_block(size_t index, const WindowOrder& order, const RopeTable& rope, Buffer<float>& hidden,
                    Scratch& scratch, const ForwardHooks& hooks) const;
  void mlp_block(size_t index, Buffer<float>& hidden, Scratch& scratch) const;
  Buffer<float> merge(const WindowOrder& order, const Buffer<float>& hidden, Scratch& scratch,
                      const ForwardHooks& hooks) const;
};

VisionTower::VisionTower(const WeightStore& store, const LayeredPrecision& vision, bool held)
    : state_(std::make_unique<State>(store)) {
  State& s = *state_;
  s.config = store.checkpoint().config().vision;
  s.precision = vision.tower;
  const TowerPrecision& nodes = vision.tower;
  FOVEA_CHECK(static_cast<int64_t>(vision.layers.size()) == s.config.depth);
  if (!held) return;
  s.patch_embed =
      Linear(store, "model.visual.patch_embed.proj", {nodes.weights, nodes.weights, nodes.linear});
  s.merge_norm = store.vector("model.visual.merger.ln_q.weight", nodes.norm);
  s.merge_in = Linear(store, "model.visual.merger.mlp.0", {nodes.weights, nodes.norm, nodes.linear});
  s.merge_out = Linear(store, "model.visual.merger.mlp.2", {nodes.weights, nodes.mlp, nodes.linear});
  for (int64_t i = 0; i < s.config.depth; ++i) {
    s.blocks.push_back(load_block(store, i, vision.layers[static_cast<size_t>(i)]));
  }
}

VisionTower::VisionTower(VisionTower&&) noexcept = default;
VisionTower& VisionTower::operator=(VisionTower&&) noexcept = default;
VisionTower::~VisionTower() = default;

int64_t VisionTower::blocks() const { return state_->config.depth; }

// Patch embedding, with the rows brought into window order on the way in.
Buffer<float> VisionTower::State::embed(const float* patches, const WindowOrder& order,
                                        const ForwardHooks& hooks) const {
  const WeightLease weights = use(store.groups().patch_embed(), precision, hooks);
  const int64_t merge_area = config.spatial_merge_size * config.spatial_merge_size,
                width = config.patch_dim();
  const auto rows = static_cast<int64_t>(order.patch_y.size());
  Buffer<float> hidden(rows * config.hidden_size), ordered(std::min(rows, kRowsPerPass) * width);
  for_passes(rows, [&](int64_t first, int64_t count) {
    for (int64_t r = 0; r < count; ++r) {
      const int64_t place = first + r;
      const int64_t from =
          order.merged_from[static_cast<size_t>(place / merge_area)] * merge_area + place % merge_area;
      std::copy_n(patches + from * width, width, ordered.data() + r * width);
    }
    round_to(ordered.data(), count * width, precision.weights);
    patch_embed.apply(ordered.data(), count, hidden.data() + first * config.hidden_size);
  });
  return hidden;
}

void VisionTower::State::attend_block(size_t index, const WindowOrder& order, const RopeTable& rope,
                                      Buffer<float>& hidden, Scratch& scratch,
                                      const ForwardHooks& hooks) const {
  const Block& block = blocks[index];
  const TowerPrecision& nodes = block.precision;
  const int64_t width = config.hidden_size, heads = config.num_heads, head_dim = config.head_dim();
  const int64_t rows = hidden.size() / width, stride = 3 * width;
  scratch.narrow.reserve(rows * width);
  scratch.gate.reserve(std::min(rows, kRowsPerPass) * stride);
  scratch.q.reserve(DType::f32, rows, width);  // what attention takes
  scratch.k.reserve(nodes.k, rows, width);
  scratch.v.reserve(nodes.v, rows, width);
  for_passes(rows, [&](int64_t first, int64_t count) {
    rms_norm(hidden.data() + first * width, block.norm1, kNormEps, nodes.norm, scratch.narrow.data(), count,
             nodes.norm_statistics);
    float* qkv = scratch.gate.data();
    block.qkv.apply(scratch.narrow.data(), count, qkv);
    apply_rope(qkv, first, count, heads, stride, rope, nodes.rope_steps, nodes.q);
    apply_rope(qkv + width, first, count, heads, stride, rope, nodes.rope_steps, nodes.k);
    scratch.keep(first, qkv, count, width);
  });

  AttentionProblem problem;
  problem.q = scratch.q.view(rows, heads, nodes.q);
  problem.k = scratch.k.view(rows, heads, nodes.k);
  problem.v = scratch.v.view(rows, heads, nodes.v);
  problem.out = scratch.narrow.data();
  problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  problem.cu_seqlens = block.full_attention ? order.frame_bounds : order.window_bounds;
  problem.precision = nodes.attention;
  AttentionGuard watch;
  if (hooks.guard != nullptr) {
    watch = guard_of(*hooks.guard, index, nodes.kind, problem, scratch.key_norms);
    problem.guard = &watch;
  }
  attend(nodes.kind, problem);
  if (hooks.layers) hooks.layers->attended(ModelPart::vision, static_cast<int64_t>(index), problem);

  for_passes(rows, [&](int64_t first, int64_t count) {
    block.proj.apply(scratch.narrow.data() + first * width, count, scratch.gate.data());
    float* to = hidden.data() + first * width;
    if (!add_residual(to, scratch.gate.data(), count * width, nodes.residual)) {
      refuse_attention({"vision", "vision block", static_cast<int64_t>(index)}, nodes,
                       {problem, nullptr, 0, scratch.gate.data(), count * width});
    }
  });
}

void VisionTower::State::mlp_block(size_t index, Buffer<float>& hidden, Scratch& scratch) const {
  const Block& block = blocks[index];
  const TowerPrecision& nodes = block.precision;
  const int64_t width = config.hidden_size, rows = hidden.size() / width, inner = config.intermediate_size;
  const int64_t pass = std::min(rows, kRowsPerPass);
  scratch.gate.reserve(pass * std::max(inner, width));
  scratch.up.reserve(pass * inner);
  for_passes(rows, [&](int64_t first, int64_t count) {
    float* normed = scratch.narrow.data();
    rms_norm(hidden.data() + first * width, block.norm2, kNormEps, nodes.norm, normed, count,
             nodes.norm_statistics);
    const Projection both[] = {{&block.gate, scratch.gate.data(), inner},
                               {&block.up, scratch.up.data(), inner}};
    Linear::apply_all(both, normed, count);
    silu_times(scratch.gate.data(), scratch.up.data(), count * inner, nodes.mlp);
    block.down.apply(scratch.gate.data(), count, normed);
    float* to = hidden.data() + first * width;
    if (!add_residual(to, normed, count * width, nodes.residual)) {
      refuse_mlp({"vision", "vision block", static_cast<int64_t>(index)}, nodes,
                 {scratch.gate.data(), scratch.up.data(), normed, count * inner, count * width});
    }
  });
}

// RMSNorm, four patches side by side, two projections with GELU between; back from window order to raster
// order.
Buffer<float> VisionTower::State::merge(const WindowOrder& order, const Buffer<float>& hidden,
                                        Scratch& scratch, const ForwardHooks& hooks) const {
  const WeightLease weights = use(store.groups().merger(), precision, hooks);
  const int64_t merge_area = config.spatial_merge_size * config.spatial_merge_size;
  const auto tokens = static_cast<int64_t>(order.merged_from.size());
  const int64_t inner = config.hidden_size * merge_area, out = config.out_hidden_size;
  Buffer<float> result(tokens * out), projected(std::min(tokens, kRowsPerPass) * out);
  scratch.gate.reserve(std::min(tokens, kRowsPerPass) * inner);
  scratch.up.reserve(std::min(tokens, kRowsPerPass) * inner);
  for_passes(tokens, [&](int64_t first, int64_t count) {
    rms_norm(hidden.data() + first * inner, merge_norm, kNormEps, precision.norm, scratch.gate.data(),
             count * merge_area, precision.norm_statistics);
    merge_in.apply(scratch.gate.data(), count, scratch.up.data());
    gelu(scratch.up.data(), count * inner, precision.mlp);
    merge_out.apply(scratch.up.data(), count, projected.data());
    for (int64_t r = 0; r < count; ++r) {
      const int64_t to = order.merged_from[static_cast<size_t>(first + r)];
      std::copy_n(projected.data() + r * out, out, result.data() + to * out);
    }
  });
  return result;
}

Buffer<float> VisionTower::encode(const float* patches, const Grid& grid, const ForwardHooks& hooks) const {
  const State& s = *state_;
  const WindowOrder order = window_order(grid, s.config);
  RopeTable rope;
  const TowerPrecision* rope_of = nullptr;  // tables are kept while blocks ask for the same
  Scratch scratch;
  Buffer<float> hidden = s.embed(patches, order, hooks);
  require_finite(hidden.data(), hidden.size(), "the patch embedding");
  for (size_t i = 0; i < s.blocks.size(); ++i) {
    const TowerPrecision& nodes = s.blocks[i].precision;
    if (rope_of == nullptr || rope_of->rope_angles != nodes.rope_angles ||
        rope_of->rope_tables != nodes.rope_tables) {
      rope = rope_table(order, s.config, nodes);
      rope_of = &nodes;
    }
    const WeightLease weights = s.use(s.store.groups().block(static_cast<int64_t>(i)), nodes, hooks);
    s.attend_block(i, order, rope, hidden, scratch, hooks);
    s.mlp_block(i, hidden, scratch);
    if (hooks.layers) {
      hooks.layers->finished(ModelPart::vision, static_cast<int64_t>(i), hidden.data(),
                             hidden.size() / s.config.hidden_size, s.config.hidden_size);
    }
    if (hooks.after_layer) hooks.after_layer();
  }
  Buffer<float> result = s.merge(order, hidden, scratch, hooks);
  require_finite(result.data(), result.size(), "the vision merger");
  return result;
}

}  // namespace fovea
