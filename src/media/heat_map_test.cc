#include "media/heat_map.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/splitmix64.h"
#include "media/patches.h"

namespace fovea {
namespace {

Image noise(ImageSize size, uint64_t seed) {
  SplitMix64 random(seed);
  Image image(size);
  for (uint8_t& value : image.rgb.span()) value = static_cast<uint8_t>(random.bits() >> 56);
  return image;
}

bool same(const Image& a, const Image& b) {
  return a.size == b.size && std::ranges::equal(a.rgb.span(), b.rgb.span());
}

// A video of two groups: every frame that was written can be read, also with deviations that turn values
// around.
TEST(SeenPicture, IsWhatWasMadePatches) {
  for (const double sign : {1.0, -1.0}) {
    MediaOptions options;
    options.std[1] *= sign;
    const Normaliser normaliser(options);
    const ImageSize size{84, 56};
    Picture picture;
    picture.grid = grid_of(size, 4, options);
    picture.patches.resize(picture.grid.patches() * 3 * 2 * 14 * 14);
    for (int64_t frame = 0; frame < 4; ++frame) {
      write_frames(noise(size, static_cast<uint64_t>(frame)), frame, 1, picture.grid, options, normaliser,
                   picture.patches.span());
    }
    for (int64_t frame = 0; frame < 4; ++frame) {
      Image seen(size);
      read_frame(picture.patches.span(), frame, picture.grid, options, normaliser, seen);
      EXPECT_TRUE(same(seen, noise(size, static_cast<uint64_t>(frame)))) << frame;
    }
    EXPECT_TRUE(same(seen_picture(picture, 1, options), noise(size, 2)));
  }
}

TEST(HeatMap, ACellIsLightWhereItsWeightIsLarge) {
  const Image grey = noise({56, 84}, 1);
  const std::vector<float> weights = {0, 0, 0.5f, 0, 1, 0};
  const Image drawn = heat_map(grey, 2, 3, weights, 1);
  const auto light = [&](int64_t row, int64_t column) {
    int64_t sum = 0;
    for (int64_t y = row * 28; y < row * 28 + 28; ++y) {
      for (int64_t x = column * 28 * 3; x < (column + 1) * 28 * 3; ++x) sum += drawn.row(y)[x];
    }
    return sum;
  };
  EXPECT_GT(light(1, 1), light(0, 2));
  for (const auto& [row, column] : {std::pair(0, 0), std::pair(0, 1), std::pair(1, 0), std::pair(1, 2)})
    EXPECT_GT(light(0, 2), light(row, column));
  // Nothing is drawn where there is no weight: the picture, dimmed.
  EXPECT_EQ(drawn.row(0)[0], static_cast<uint8_t>(grey.row(0)[0] * 0.45f + 0.5f));
}

TEST(ContactSheet, HoldsEveryPictureOnce) {
  const std::vector<Image> pictures = [] {
    std::vector<Image> all;
    for (uint64_t i = 0; i < 5; ++i) all.push_back(noise({28, 28 + 28 * static_cast<int64_t>(i % 2)}, i));
    return all;
  }();
  const Image sheet = contact_sheet(pictures);
  EXPECT_EQ(sheet.size, (ImageSize{28 * 2 + 8, 56 * 3 + 16}));
  EXPECT_TRUE(std::equal(pictures[4].row(3), pictures[4].row(3) + 28 * 3, sheet.row(36 + 3) + 64 * 3));
}

}  // namespace
}  // namespace fovea
