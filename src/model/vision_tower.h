// The vision tower: patches of one image or video in, merged embeddings for the text decoder out.
// Formula by formula: Qwen2_5_VisionTransformerPretrainedModel of transformers 4.57.
#pragma once

#include <atomic>
#include <memory>

#include "attention/problem.h"
#include "base/grid.h"
#include "base/progress.h"
#include "model/weight_store.h"

namespace fovea {

class VisionTower {
 public:
  // Weights are borrowed from the store. `vision` has an entry for every block.
  VisionTower(const WeightStore& store, const LayeredPrecision& vision);
  VisionTower(VisionTower&&) noexcept;
  VisionTower& operator=(VisionTower&&) noexcept;
  ~VisionTower();

  // patches: [grid.patches(), patch_dim] f32 in the processor's order. Returns [grid.patches() / merge^2,
  // out_hidden_size] f32 in raster order of merged tokens. Attention never crosses a frame, so images and
  // videos are encoded one by one without changing any result. Throws Error(numeric) naming the block and the
  // node of a non-finite value. `progress` gets "vision" with the blocks done, offset by `progress_done` of
  // `progress_total`. `guard`, unless null, has an entry per block and head in its vision part.
  Buffer<float> encode(const float* patches, const Grid& grid, const std::function<void()>& block_done,
                       GuardReport* guard = nullptr) const;

  int64_t blocks() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fovea
