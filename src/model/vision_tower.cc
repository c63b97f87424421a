#include "model/vision_tower.h"

#include <algorithm>
#include <cmath>

#include "model/elementwise.h"
#include "model/linear.h"
#include "model/window_index.h"

namespace fovea {

namespace {

constexpr float kNormEps = 1e-6f;  // fixed in the reference, not a config field
// Rows per pass through a projection or the MLP: bounds scratch, changes no result.
constexpr int64_t kRowsPerPass = 1024;

struct Block {
  std::vector<float> norm1, norm2;
  Linear qkv, proj, gate, up, down;
  bool full_attention = false;
};

struct Scratch {
  Buffer<float> wide, narrow, gate, up;
};

// Calls body(first, count) for consecutive passes over `rows`.
template <typename Body>
void for_passes(int64_t rows, Body body) {
  for (int64_t at = 0; at < rows; at += kRowsPerPass) body(at, std::min(kRowsPerPass, rows - at));
}

Block load_block(const Checkpoint& checkpoint, int64_t index, const TowerPrecision& precision) {
  const std::string name = fmt::format("model.visual.blocks.{}.", index);
  const auto& full = checkpoint.config().vision.fullatt_block_indexes;
  Block block;
  block.norm1 = rounded_vector(checkpoint, name + "norm1.weight", precision.norm);
  block.norm2 = rounded_vector(checkpoint, name + "norm2.weight", precision.norm);
  block.qkv = Linear(checkpoint, name + "attn.qkv", precision.linear);
  block.proj = Linear(checkpoint, name + "attn.proj", precision.linear);
  block.gate = Linear(checkpoint, name + "mlp.gate_proj", precision.linear);
  block.up = Linear(checkpoint, name + "mlp.up_proj", precision.linear);
  block.down = Linear(checkpoint, name + "mlp.down_proj", precision.linear);
  block.full_attention = std::find(full.begin(), full.end(), index) != full.end();
  return block;
}

RopeTable rope_table(const WindowOrder& order, const VisionConfig& config, DType tables) {
  const int64_t pairs = config.head_dim() / 2;
  // Half of the rotary pairs follow y, half follow x; theta is fixed in the reference.
  const std::vector<float> inverse = inverse_frequencies(10000.0, pairs);
  const auto rows = static_cast<int64_t>(order.patch_y.size());
  RopeTable table{std::vector<float>(static_cast<size_t>(rows * pairs)),
                  std::vector<float>(static_cast<size_t>(rows * pairs)), pairs};
  std::vector<float> angles(static_cast<size_t>(pairs));
  for (int64_t r = 0; r < rows; ++r) {
    const auto y = static_cast<float>(order.patch_y[static_cast<size_t>(r)]);
    const auto x = static_cast<float>(order.patch_x[static_cast<size_t>(r)]);
    for (size_t i = 0; i < inverse.size(); ++i) {
      angles[i] = y * inverse[i];
      angles[inverse.size() + i] = x * inverse[i];
    }
    set_rope_row(table, r, angles, tables);
  }
  return table;
}

}  // namespace

struct VisionTower::State {
  VisionConfig config;
  TowerPrecision precision;
  AttentionKind attention;
  Linear patch_embed, merge_in, merge_out;
  std::vector<float> merge_norm;
  std::vector<Block> blocks;

  Buffer<float> embed(const float* patches, const WindowOrder& order) const;
  void attend_block(size_t index, const WindowOrder& order, const RopeTable& rope, Buffer<float>& hidden,
                    Scratch& scratch, LayerObserver* observer) const;
  void mlp_block(const Block& block, Buffer<float>& hidden, Scratch& scratch) const;
  Buffer<float> merge(const WindowOrder& order, const Buffer<float>& hidden, Scratch& scratch) const;
};

VisionTower::VisionTower(const Checkpoint& checkpoint, const TowerPrecision& precision,
                         AttentionKind attention)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.config = checkpoint.config().vision;
  s.precision = precision;
  s.attention = attention;
  s.patch_embed = Linear(checkpoint, "model.visual.patch_embed.proj", precision.linear);
  s.merge_norm = rounded_vector(checkpoint, "model.visual.merger.ln_q.weight", precision.norm);
  s.merge_in = Linear(checkpoint, "model.visual.merger.mlp.0", precision.linear);
  s.merge_out = Linear(checkpoint, "model.visual.merger.mlp.2", precision.linear);
  for (int64_t i = 0; i < s.config.depth; ++i) s.blocks.push_back(load_block(checkpoint, i, precision));
}

VisionTower::VisionTower(VisionTower&&) noexcept = default;
VisionTower& VisionTower::operator=(VisionTower&&) noexcept = default;
VisionTower::~VisionTower() = default;

int64_t VisionTower::blocks() const { return static_cast<int64_t>(state_->blocks.size()); }

// Patch embedding, with the rows brought into window order on the way in.
Buffer<float> VisionTower::State::embed(const float* patches, const WindowOrder& order) const {
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
    round_to(ordered.data(), count * width, precision.linear);
    patch_embed.apply(ordered.data(), count, hidden.data() + first * config.hidden_size);
  });
  return hidden;
}

void VisionTower::State::attend_block(size_t index, const WindowOrder& order, const RopeTable& rope,
                                      Buffer<float>& hidden, Scratch& scratch,
                                      LayerObserver* observer) const {
  const Block& block = blocks[index];
  const int64_t width = config.hidden_size, heads = config.num_heads, head_dim = config.head_dim();
  const int64_t rows = hidden.size() / width;
  scratch.wide.reserve(rows * 3 * width);
  scratch.narrow.reserve(rows * width);
  for_passes(rows, [&](int64_t first, int64_t count) {
    rms_norm(hidden.data() + first * width, block.norm1, kNormEps, precision.norm, scratch.narrow.data(),
             count);
    block.qkv.apply(scratch.narrow.data(), count, scratch.wide.data() + first * 3 * width);
  });
  float* qkv = scratch.wide.data();
  apply_rope(qkv, rows, heads, 3 * width, rope, precision.rope_steps, precision.rotated);
  apply_rope(qkv + width, rows, heads, 3 * width, rope, precision.rope_steps, precision.rotated);

  AttentionProblem problem;
  problem.q = {qkv, DType::f32, rows, heads, head_dim, 3 * width};
  problem.k = {qkv + width, DType::f32, rows, heads, head_dim, 3 * width};
  problem.v = {qkv + 2 * width, DType::f32, rows, heads, head_dim, 3 * width};
  problem.out = scratch.narrow.data();
  problem.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  problem.cu_seqlens = block.full_attention ? order.frame_bounds : order.window_bounds;
  problem.precision = precision.attention;
  attend(attention, problem);
  if (observer) observer->attended(ModelPart::vision, static_cast<int64_t>(index), problem);

  scratch.gate.reserve(std::min(rows, kRowsPerPass) * width);
  for_passes(rows, [&](int64_t first, int64_t count) {
    block.proj.apply(scratch.narrow.data() + first * width, count, scratch.gate.data());
    add_residual(hidden.data() + first * width, scratch.gate.data(), count * width, precision.residual);
  });
}

void VisionTower::State::mlp_block(const Block& block, Buffer<float>& hidden, Scratch& scratch) const {
  const int64_t width = config.hidden_size, rows = hidden.size() / width, inner = config.intermediate_size;
  const int64_t pass = std::min(rows, kRowsPerPass);
  scratch.gate.reserve(pass * std::max(inner, width));
  scratch.up.reserve(pass * inner);
  for_passes(rows, [&](int64_t first, int64_t count) {
    float* normed = scratch.narrow.data();
    rms_norm(hidden.data() + first * width, block.norm2, kNormEps, precision.norm, normed, count);
    block.gate.apply(normed, count, scratch.gate.data());
    block.up.apply(normed, count, scratch.up.data());
    silu_times(scratch.gate.data(), scratch.up.data(), count * inner, precision.mlp);
    block.down.apply(scratch.gate.data(), count, normed);
    add_residual(hidden.data() + first * width, normed, count * width, precision.residual);
  });
}

// RMSNorm, four patches side by side, two projections with GELU between; back from window order to raster
// order.
Buffer<float> VisionTower::State::merge(const WindowOrder& order, const Buffer<float>& hidden,
                                        Scratch& scratch) const {
  const int64_t merge_area = config.spatial_merge_size * config.spatial_merge_size;
  const auto tokens = static_cast<int64_t>(order.merged_from.size());
  const int64_t inner = config.hidden_size * merge_area, out = config.out_hidden_size;
  Buffer<float> result(tokens * out), projected(std::min(tokens, kRowsPerPass) * out);
  scratch.gate.reserve(std::min(tokens, kRowsPerPass) * inner);
  scratch.up.reserve(std::min(tokens, kRowsPerPass) * inner);
  for_passes(tokens, [&](int64_t first, int64_t count) {
    rms_norm(hidden.data() + first * inner, merge_norm, kNormEps, precision.norm, scratch.gate.data(),
             count * merge_area);
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

Buffer<float> VisionTower::encode(const float* patches, const Grid& grid,
                                  const std::function<void()>& block_done, LayerObserver* observer) const {
  const State& s = *state_;
  const WindowOrder order = window_order(grid, s.config);
  const RopeTable rope = rope_table(order, s.config, s.precision.rope_tables);
  Scratch scratch;
  Buffer<float> hidden = s.embed(patches, order);
  for (size_t i = 0; i < s.blocks.size(); ++i) {
    s.attend_block(i, order, rope, hidden, scratch, observer);
    s.mlp_block(s.blocks[i], hidden, scratch);
    require_finite(hidden.data(), hidden.size(), fmt::format("vision block {}", i));
    if (observer) {
      observer->finished(ModelPart::vision, static_cast<int64_t>(i), hidden.data(),
                         hidden.size() / s.config.hidden_size, s.config.hidden_size);
    }
    if (block_done) block_done();
  }
  Buffer<float> result = s.merge(order, hidden, scratch);
  require_finite(result.data(), result.size(), "the vision merger");
  return result;
}

}  // namespace fovea
