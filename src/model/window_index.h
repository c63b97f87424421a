// How the vision tower orders its tokens: window by window, so that each window is one contiguous segment.
// Source: Qwen2_5_VisionTransformerPretrainedModel.get_window_index and rot_pos_emb (transformers 4.57).
#pragma once

#include <cstdint>
#include <vector>

#include "base/grid.h"
#include "checkpoint/config.h"

namespace fovea {

struct WindowOrder {
  std::vector<int64_t>
      merged_from;  // merged token at place i of the window order = merged_from[i] of the raster
  std::vector<int64_t> window_bounds;     // cu_seqlens of the windows, in patches
  std::vector<int64_t> frame_bounds;      // cu_seqlens of the frames, in patches
  std::vector<int32_t> patch_y, patch_x;  // coordinates of every patch, in window order
};

WindowOrder window_order(const Grid& grid, const VisionConfig& config);

}  // namespace fovea
