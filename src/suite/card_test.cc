// Goal: a picture shows what its card says, whatever the random layout. Method: geometry and colours that
// follow from the limits in card.cc (radius 0.38 to 0.46 of the shorter side, shades within 12 and grain
// within 4 of the table), and the digits against the scans they are drawn from.
#include "suite/card.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace fovea {
namespace {

constexpr std::array<std::array<int, 3>, 8> kShades{{{200, 40, 40},
                                                     {40, 150, 60},
                                                     {45, 75, 200},
                                                     {235, 205, 50},
                                                     {130, 50, 160},
                                                     {240, 135, 30},
                                                     {60, 195, 215},
                                                     {115, 75, 45}}};
constexpr int kShadeLimit = 12 + 4 + 1;  // shade, grain, rounding

// Share of the picture whose colour is the shade of `colour`.
double share_of(const CardImage& image, size_t colour) {
  int64_t count = 0;
  for (size_t at = 0; at < image.rgb.size(); at += 3) {
    bool near = true;
    for (size_t c = 0; c < 3; ++c) near &= std::abs(image.rgb[at + c] - kShades[colour][c]) <= kShadeLimit;
    count += near;
  }
  return static_cast<double>(count) / static_cast<double>(image.width * image.height);
}

TEST(Card, ShowsItsColourAndNoOther) {
  for (size_t colour = 0; colour < kColours.size(); ++colour) {
    for (uint64_t seed = 0; seed < 8; ++seed) {
      SuiteRandom random(seed, "card", colour);
      const CardImage image = draw_card({colour, seed % 4, 3}, DigitPool::seen, random);
      ASSERT_EQ(image.rgb.size(), static_cast<size_t>(image.width * image.height * 3));
      // The smallest shape, a triangle of radius 0.38 of the side in a picture of 84 x 140, has
      // 0.5 * 2.1 * 1.9 * (0.38 * 84)^2 / (84 * 140) = 17 % of it; its digit's square at most 44 % of that.
      EXPECT_GT(share_of(image, colour), 0.09) << kColours[colour];
      for (size_t other = 0; other < kColours.size(); ++other) {
        // Antialiased edges may pass through another shade: at most the shape's outline, one pixel wide.
        if (other == colour) continue;
        EXPECT_LT(share_of(image, other), 0.05) << kColours[colour] << kColours[other];
      }
    }
  }
}

TEST(Card, SidesAreOfTheThreeSizes) {
  std::set<int64_t> sides;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SuiteRandom random(seed, "card", 0);
    const CardImage image = draw_card({1, 1, 1}, DigitPool::seen, random);
    sides.insert({image.width, image.height});
  }
  EXPECT_EQ(sides, (std::set<int64_t>{84, 112, 140}));
}

TEST(Digits, PixelCentresAreTheScanAndPaperSurroundsIt) {
  SuiteRandom random(1, "digit", 0);
  const HandwrittenDigit digit = draw_digit(4, DigitPool::seen, random);
  EXPECT_EQ(digit.value, 4);
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(digit.at(static_cast<double>(i % 8) + 0.5, static_cast<double>(i / 8) + 0.5), digit.ink[i]);
  }
  EXPECT_EQ(digit.at(-1, 4), 0);
  EXPECT_EQ(digit.at(4, 9), 0);
  EXPECT_FLOAT_EQ(digit.at(4, 3.5), (digit.ink[27] + digit.ink[28]) / 2);
}

// All handwriting of a pool, by drawing until nothing new has come for a long time.
std::set<std::array<float, 64>> all_of(DigitPool pool, int64_t value) {
  std::set<std::array<float, 64>> found;
  SuiteRandom random(7, "pool", static_cast<uint64_t>(value));
  for (int i = 0; i < 4000; ++i) found.insert(draw_digit(value, pool, random).ink);
  return found;
}

TEST(Digits, UnseenHandwritingIsNeverDrawnForTraining) {
  for (int64_t value = 0; value < 10; ++value) {
    const auto seen = all_of(DigitPool::seen, value), unseen = all_of(DigitPool::unseen, value);
    EXPECT_GT(seen.size(), 100u);
    EXPECT_GT(unseen.size(), 20u);
    std::vector<std::array<float, 64>> both;
    std::set_intersection(seen.begin(), seen.end(), unseen.begin(), unseen.end(), std::back_inserter(both));
    EXPECT_TRUE(both.empty()) << value;
  }
}

}  // namespace
}  // namespace fovea
