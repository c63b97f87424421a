#include "model/window_index.h"

#include <algorithm>

namespace fovea {

namespace {

// Appends the merge x merge patches of merged token (y, x): they lie next to each other in the patch order.
void append_patches(WindowOrder& order, int64_t y, int64_t x, int64_t merge) {
  for (int64_t dy = 0; dy < merge; ++dy) {
    for (int64_t dx = 0; dx < merge; ++dx) {
      order.patch_y.push_back(static_cast<int32_t>(y * merge + dy));
      order.patch_x.push_back(static_cast<int32_t>(x * merge + dx));
    }
  }
}

}  // namespace

WindowOrder window_order(const Grid& grid, const VisionConfig& config) {
  const int64_t merge = config.spatial_merge_size;
  const int64_t rows = grid.h / merge, cols = grid.w / merge;
  const int64_t side = std::max<int64_t>(1, config.window_size / merge / config.patch_size);
  WindowOrder order;
  order.window_bounds.push_back(0);
  order.frame_bounds.push_back(0);
  for (int64_t t = 0; t < grid.t; ++t) {
    for (int64_t top = 0; top < rows; top += side) {
      for (int64_t left = 0; left < cols; left += side) {
        for (int64_t y = top; y < std::min(top + side, rows); ++y) {
          for (int64_t x = left; x < std::min(left + side, cols); ++x) {
            order.merged_from.push_back((t * rows + y) * cols + x);
            append_patches(order, y, x, merge);
          }
        }
        order.window_bounds.push_back(static_cast<int64_t>(order.patch_y.size()));
      }
    }
    order.frame_bounds.push_back(static_cast<int64_t>(order.patch_y.size()));
  }
  return order;
}

}  // namespace fovea
