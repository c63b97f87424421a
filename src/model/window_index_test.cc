// Goal: the window order is the reference's permutation for every remainder of the merged grid mod 4. Method:
// the padded formulation of get_window_index (pad to full windows, drop the padding), written out
// independently.
#include "model/window_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace fovea {
namespace {

struct Expected {
  std::vector<int64_t> order, bounds{0};
};

// The reference pads each side to a multiple of 4 (a whole extra window when it is one already), reshapes,
// and removes the padding; empty windows vanish from the bounds (unique_consecutive).
Expected padded_formulation(const Grid& grid) {
  const int64_t rows = grid.h / 2, cols = grid.w / 2;
  const int64_t windows_y = (rows + 4 - rows % 4) / 4, windows_x = (cols + 4 - cols % 4) / 4;
  Expected result;
  for (int64_t t = 0; t < grid.t; ++t) {
    for (int64_t window = 0; window < windows_y * windows_x; ++window) {
      int64_t inside = 0;
      for (int64_t cell = 0; cell < 16; ++cell) {
        const int64_t y = window / windows_x * 4 + cell / 4, x = window % windows_x * 4 + cell % 4;
        if (y >= rows || x >= cols) continue;
        result.order.push_back(t * rows * cols + y * cols + x);
        ++inside;
      }
      const int64_t bound = result.bounds.back() + 4 * inside;
      if (bound != result.bounds.back()) result.bounds.push_back(bound);
    }
  }
  return result;
}

TEST(WindowOrder, EqualsThePaddedFormulation) {
  for (int64_t t : {1, 3}) {
    for (int64_t rows = 1; rows <= 9; ++rows) {
      for (int64_t cols = 1; cols <= 9; ++cols) {
        const Grid grid{t, 2 * rows, 2 * cols};
        const WindowOrder order = window_order(grid, VisionConfig{});
        const Expected expected = padded_formulation(grid);
        ASSERT_EQ(order.merged_from, expected.order) << rows << " x " << cols;
        ASSERT_EQ(order.window_bounds, expected.bounds) << rows << " x " << cols;
        std::vector<int64_t> sorted = order.merged_from;
        std::sort(sorted.begin(), sorted.end());
        std::vector<int64_t> all(sorted.size());
        std::iota(all.begin(), all.end(), 0);
        ASSERT_EQ(sorted, all) << "not a permutation";
        ASSERT_EQ(static_cast<int64_t>(order.frame_bounds.size()), t + 1);
        ASSERT_EQ(order.frame_bounds.back(), grid.patches());
      }
    }
  }
}

TEST(WindowOrder, PatchCoordinatesFollowTheMergeBlocks) {
  const WindowOrder order = window_order({1, 4, 4}, VisionConfig{});
  EXPECT_EQ(order.patch_y, (std::vector<int32_t>{0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3}));
  EXPECT_EQ(order.patch_x, (std::vector<int32_t>{0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3}));
}

}  // namespace
}  // namespace fovea
