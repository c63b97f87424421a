// Goal: M-RoPE ids equal the reference's rule, value by value. Method: small prompts worked out by hand from
// get_rope_index (text counts up; a picture starts at the next id and moves it on by its largest axis).
#include "model/positions.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace fovea {
namespace {

constexpr int32_t kImage = 151655, kVideo = 151656;

ModelConfig config() { return {}; }

std::vector<int32_t> ids(int text_before, int pads, int32_t pad, int text_after) {
  std::vector<int32_t> result(static_cast<size_t>(text_before), 1);
  result.insert(result.end(), static_cast<size_t>(pads), pad);
  result.insert(result.end(), static_cast<size_t>(text_after), 2);
  return result;
}

using Row = std::vector<int64_t>;

TEST(Positions, TextCountsUpOnAllAxes) {
  const Positions p = mrope_positions(ids(3, 0, 0, 2), {}, config());
  for (const Row& axis : p.axis) EXPECT_EQ(axis, (Row{0, 1, 2, 3, 4}));
  EXPECT_EQ(p.next, 5);
}

TEST(Positions, ImageMovesOnByItsLongerSide) {
  const std::vector<VisualItem> items = {{{1, 4, 6}}};  // merged 2 x 3
  const Positions p = mrope_positions(ids(2, 6, kImage, 2), items, config());
  EXPECT_EQ(p.axis[0], (Row{0, 1, 2, 2, 2, 2, 2, 2, 5, 6}));
  EXPECT_EQ(p.axis[1], (Row{0, 1, 2, 2, 2, 3, 3, 3, 5, 6}));
  EXPECT_EQ(p.axis[2], (Row{0, 1, 2, 3, 4, 2, 3, 4, 5, 6}));
  EXPECT_EQ(p.next, 7);
}

TEST(Positions, FractionalVideoSecondsTruncateAfterTheProduct) {
  // 0.75 s per grid, 2 ids per second: steps 0, 1.5, 3, 4.5 truncate to 0, 1, 3, 4.
  const std::vector<VisualItem> items = {{{4, 2, 2}, true, 0.75}};
  const Positions p = mrope_positions(ids(1, 4, kVideo, 1), items, config());
  EXPECT_EQ(p.axis[0], (Row{0, 1, 2, 4, 5, 6}));
  EXPECT_EQ(p.axis[1], (Row{0, 1, 1, 1, 1, 6}));
  EXPECT_EQ(p.next, 7);
}

TEST(Positions, MismatchesAreNamed) {
  const std::vector<VisualItem> image = {{{1, 4, 4}}};
  EXPECT_THROW(mrope_positions(ids(1, 3, kImage, 1), image, config()), Error);  // one pad short
  EXPECT_THROW(mrope_positions(ids(1, 4, kVideo, 1), image, config()), Error);  // wrong kind
  EXPECT_THROW(mrope_positions(ids(1, 0, kImage, 1), image, config()), Error);  // no run
  EXPECT_THROW(mrope_positions(ids(1, 4, kImage, 1), {}, config()), Error);     // no item
  EXPECT_THROW(mrope_positions(ids(1, 5, kImage, 1), image, config()), Error);  // one pad too many
}

}  // namespace
}  // namespace fovea
