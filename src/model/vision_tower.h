// The vision tower: patches of one image or video in, merged embeddings for the text decoder out.
// Formula by formula: Qwen2_5_VisionTransformerPretrainedModel of transformers 4.57.
#pragma once

#include <atomic>
#include <memory>

#include "attention/problem.h"
#include "base/grid.h"
#include "base/progress.h"
#include "checkpoint/config.h"
#include "model/call_memory.h"
#include "model/layer_observer.h"
#include "model/weight_store.h"

namespace fovea {

class VisionTower {
 public:
  // Rows per pass through a projection or the MLP: bounds scratch, changes no result.
  static constexpr int64_t kRowsPerPass = 1024;
  // How q, k or v of a node is kept.
  static constexpr DType kept_type(DType node) { return node == DType::f64 ? DType::f32 : node; }

  // Weights are borrowed from the store, and computed with on its context. `vision` has an entry for every
  // block. Not held: nothing is loaded, and encode() may not be called.
  VisionTower(const WeightStore& store, const LayeredPrecision& vision, bool held = true);
  VisionTower(VisionTower&&) noexcept;
  VisionTower& operator=(VisionTower&&) noexcept;
  ~VisionTower();

  // patches: [grid.patches(), patch_dim] f32 in the processor's order. Returns [grid.patches() / merge^2,
  // out_hidden_size] f32 in raster order of merged tokens. Attention never crosses a frame, so images and
  // videos are encoded one by one without changing any result. Throws Error(numeric) naming the block and the
  // node of a non-finite value.
  Buffer<float> encode(const float* patches, const Grid& grid, const ForwardHooks& hooks = {}) const;

  int64_t blocks() const;

  // What encode() allocates for this grid, its result included; with a guard a little more.
  static CallMemory memory(const VisionConfig& config, const LayeredPrecision& vision, const Grid& grid,
                           bool guard, const Context& context = process_context());

 private:
  friend class VisionPass;
  struct State;
  std::unique_ptr<State> state_;
};

// How many frame groups of a video the tower can take in one call within `bytes` (all it allocates, attention
// included), at least 1.
int64_t frame_groups_at_once(const VisionConfig& config, const LayeredPrecision& vision, const Grid& grid,
                             int64_t bytes, bool guard, const Context& context = process_context());

}  // namespace fovea
