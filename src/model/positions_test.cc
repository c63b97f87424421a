// Goal: M-RoPE ids equal the reference's rule, value by value. Method: small prompts worked out by hand from
// get_rope_index (text counts up; a picture starts at the next id and moves it on by its largest axis).
#include "model/positions.h"

#include <gtest/gtest.h>

#include <limits>

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

// The same prompt under both rules. Values of transformers 5.24: text at 0; the video at 1, its times 1 + [0,
// 2, 4, 6]; text goes on at 1 + max(2, 3) = 4, which frames have, too; mrope_position_deltas = 7 + 1 - 28.
TEST(Positions, TextAfterAVideoFollowsTheRuleAskedFor) {
  const std::vector<VisualItem> items = {{{4, 4, 6}, true, 1.0}};  // merged 2 x 3, 2 ids per second
  const std::vector<int32_t> prompt = ids(1, 24, kVideo, 3);
  const Positions ours = mrope_positions(prompt, items, config());
  const Positions theirs = mrope_positions(prompt, items, config(), VideoPositions::transformers_5);
  for (size_t i = 0; i < 25; ++i) {
    for (size_t axis = 0; axis < 3; ++axis) EXPECT_EQ(ours.axis[axis][i], theirs.axis[axis][i]);
  }
  const auto text = [](const Positions& p) { return Row(p.axis[0].end() - 3, p.axis[0].end()); };
  EXPECT_EQ(text(ours), (Row{8, 9, 10}));
  EXPECT_EQ(ours.next, 11);
  EXPECT_EQ(text(theirs), (Row{4, 5, 6}));
  EXPECT_EQ(theirs.next, 8);
  EXPECT_EQ(theirs.axis[1].back(), 6);
}

// In 5.24 an item after a video starts where its text would, and an image is the same under both rules.
TEST(Positions, ItemsAfterAVideoFollowTheRuleToo) {
  std::vector<int32_t> prompt = ids(0, 3, kVideo, 1);
  prompt.insert(prompt.end(), 4, kImage);
  prompt.push_back(2);
  const std::vector<VisualItem> items = {{{3, 2, 2}, true, 5.0}, {{1, 4, 4}}};
  const Positions p = mrope_positions(prompt, items, config(), VideoPositions::transformers_5);
  EXPECT_EQ(p.axis[0], (Row{0, 10, 20, 1, 2, 2, 2, 2, 4}));
  EXPECT_EQ(p.axis[2], (Row{0, 0, 0, 1, 2, 3, 2, 3, 4}));
  EXPECT_EQ(p.next, 21);
  EXPECT_EQ(mrope_positions(prompt, items, config()).axis[0], (Row{0, 10, 20, 21, 22, 22, 22, 22, 24}));
}

TEST(Positions, TimesBeyondAllNumbersAreRefused) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const double seconds : {1e20, 1e300, -1.0, kNan}) {
    const std::vector<VisualItem> items = {{{2, 2, 2}, true, seconds}};
    EXPECT_THROW(mrope_positions(ids(1, 2, kVideo, 1), items, config()), Error) << seconds;
  }
  const std::vector<VisualItem> days = {{{2, 2, 2}, true, 2e5}};
  EXPECT_EQ(mrope_positions(ids(0, 2, kVideo, 1), days, config()).next, 400002);
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
