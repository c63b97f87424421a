#include "model/vision_tower.h"

#include <algorithm>

#include "model/vision_pass.h"
#include "model/vision_state.h"

namespace fovea {

namespace {

VisionBlock load_block(const WeightStore& store, int64_t index, const TowerPrecision& precision) {
  const std::string name = fmt::format("model.visual.blocks.{}.", index);
  const auto& full = store.checkpoint().config().vision.fullatt_block_indexes;
  const auto linear = [&](const char* part, DType input, DType output) {
    const bool mlp = std::string_view(part).starts_with("mlp.");
    return Linear(
        store, name + part,
        {precision.weights, input, output, mlp ? precision.mlp_quantization : precision.quantization});
  };
  VisionBlock block;
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

}  // namespace

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

Buffer<float> VisionTower::encode(const float* patches, const Grid& grid, const ForwardHooks& hooks) const {
  VisionPass pass(*this, patches, grid, hooks);
  pass.advance(pass.pieces());
  return pass.embeddings();
}

}  // namespace fovea
