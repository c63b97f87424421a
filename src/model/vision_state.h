// What a vision tower consists of; private to vision_tower.cc, which loads it, and vision_pass.cc, which
// computes.
#pragma once

#include "model/linear.h"
#include "model/vision_tower.h"

namespace fovea {

struct VisionBlock {
  TowerPrecision precision;
  std::vector<float> norm1, norm2;
  Linear qkv, proj, gate, up, down;
  bool full_attention = false;
};

struct VisionTower::State {
  explicit State(const WeightStore& weights) : store(weights) {}

  const WeightStore& store;
  const Context& context() const { return store.context(); }
  const Kernels& kernels() const { return *store.context().kernels; }
  VisionConfig config;
  TowerPrecision precision;  // of what belongs to no block
  Linear patch_embed, merge_in, merge_out;
  std::vector<float> merge_norm;
  std::vector<VisionBlock> blocks;
};

}  // namespace fovea
