// One picture on its way through the vision tower, a piece of work at a time, so that others need not wait
// for it. Pieces take about the same time; no result depends on them.
#pragma once

#include <memory>

#include "model/vision_tower.h"

namespace fovea {

class VisionPass {
 public:
  // As VisionTower::encode(). The tower and the patches are borrowed until all pieces are done. Where weights
  // are streamed, nothing else may use them before that.
  VisionPass(const VisionTower& tower, const float* patches, const Grid& grid, ForwardHooks hooks = {});
  VisionPass(VisionPass&&) noexcept;
  VisionPass& operator=(VisionPass&&) noexcept;
  ~VisionPass();

  int64_t pieces() const;
  int64_t done() const;
  // Computes up to `count` further pieces. Throws Error(numeric) naming the block and the node of a
  // non-finite value, and what hooks throw; then the pass is over.
  void advance(int64_t count);
  // Requires done() == pieces(); once.
  Buffer<float> embeddings();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fovea
