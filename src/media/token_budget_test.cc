// Goal: limits in tokens hold exactly, leave small pictures alone, and are the reference's max_pixels in
// effect. Method: sizes from random numbers, every property checked on the level found and the next one.
#include "media/token_budget.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/splitmix64.h"

namespace fovea {
namespace {

const std::string kFolder = std::string(FOVEA_SOURCE_DIR) + "/tests/data/media/";

Picture measured(int64_t width, int64_t height, int64_t frames = 0, bool listed = false) {
  Picture picture;
  picture.source = fmt::format("{} x {}", width, height);
  picture.original_height = height;
  picture.original_width = width;
  picture.is_video = frames > 0;
  picture.listed = listed;
  picture.frames = std::max<int64_t>(frames, 1);
  picture.grid.t = (picture.frames + 1) / 2;
  return picture;
}

int64_t total(std::span<const Picture> pictures, std::span<const MediaOptions> options) {
  int64_t sum = 0;
  for (size_t i = 0; i < pictures.size(); ++i) sum += tokens_under(pictures[i], options[i]);
  return sum;
}

TEST(TokenBudget, LargePagesShareALevelAndThumbnailsKeepTheirTokens) {
  std::vector<Picture> pictures;
  for (int i = 0; i < 10; ++i) pictures.push_back(measured(112, 112));    // 16 tokens
  for (int i = 0; i < 10; ++i) pictures.push_back(measured(1120, 1120));  // 1280 of 1600 tokens
  std::vector<MediaOptions> options(pictures.size());
  share_tokens(pictures, options, 4160);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(tokens_under(pictures[i], options[i]), 16);
  // (4160 - 160) / 10 = 400 = 20 x 20.
  for (size_t i = 10; i < 20; ++i) EXPECT_EQ(tokens_under(pictures[i], options[i]), 400);
}

TEST(TokenBudget, TheLevelIsTheHighestThatFits) {
  SplitMix64 random(7);
  const auto below = [&](uint64_t end) { return static_cast<int64_t>(random.bits() % end); };
  for (int round = 0; round < 40; ++round) {
    std::vector<Picture> pictures;
    std::vector<MediaOptions> options;
    for (int64_t count = 1 + below(20); count > 0; --count) {
      const int64_t frames = below(4) == 0 ? 2 + below(20) : 0;
      pictures.push_back(measured(30 + below(3000), 30 + below(3000), frames, below(2) == 0));
      options.emplace_back();
    }
    const std::vector<MediaOptions> own = options;
    const int64_t wanted = total(pictures, own), most = 4 * 21 * 20 + below(20000);
    share_tokens(pictures, options, most);
    const int64_t got = total(pictures, options);
    EXPECT_LE(got, most);
    EXPECT_TRUE(wanted > most || got == wanted);
    // One level higher than the last that gives what was given is too high.
    const auto at = [&](int64_t tokens) {
      int64_t sum = 0;
      for (size_t i = 0; i < pictures.size(); ++i) {
        sum += tokens_under(pictures[i], at_level(own[i], tokens));
      }
      return sum;
    };
    int64_t level = 1;
    while (level < 1300 && at(level) < got) ++level;
    EXPECT_EQ(at(level), got);
    while (level < 1300 && at(level) == got) ++level;
    EXPECT_TRUE(wanted <= most || at(level) > most) << "round " << round;
    for (size_t i = 0; i < pictures.size(); ++i) {
      for (size_t j = 0; j < pictures.size(); ++j) {
        const int64_t need = tokens_under(pictures[i], own[i]) / pictures[i].grid.t;
        if (tokens_under(pictures[i], options[i]) / pictures[i].grid.t == need) continue;
        // i was reduced: nobody whose need was no larger than what i got lost anything.
        const int64_t other = tokens_under(pictures[j], own[j]) / pictures[j].grid.t;
        if (other > tokens_under(pictures[i], options[i]) / pictures[i].grid.t) continue;
        EXPECT_EQ(tokens_under(pictures[j], options[j]) / pictures[j].grid.t, other);
      }
    }
  }
}

TEST(TokenBudget, OnePictureKeepsToItsOwnLimit) {
  for (const auto& [width, height] :
       {std::pair<int64_t, int64_t>{3000, 2000}, {5600, 28}, {28, 5000}, {40, 40}}) {
    for (const int64_t most : {14, 100, 256, 1000}) {
      MediaOptions options;
      options.min_pixels = 28 * 28;
      const Picture picture = measured(width, height);
      limit_tokens(picture, options, most);
      EXPECT_LE(tokens_under(picture, options), most) << picture.source;
    }
  }
  // A video's limit is that of a pair of frames, and its default minimum of 128 tokens yields.
  MediaOptions options;
  const Picture video = measured(1920, 1080, 16);
  limit_tokens(video, options, 60);
  EXPECT_LE(tokens_under(video, options), 8 * 60);
  EXPECT_GE(tokens_under(video, options), 8 * 40);
}

TEST(TokenBudget, AMinimumThatDoesNotFitIsRefusedByName) {
  std::vector<Picture> pictures;
  pictures.push_back(measured(500, 500));
  pictures.push_back(measured(700, 300));
  std::vector<MediaOptions> options(2);
  options[0].min_pixels = options[1].min_pixels = 28 * 28 * 100;
  const auto message_of = [](auto work) -> std::string {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
      return error.what();
    }
    return "accepted";
  };
  const std::string shared = message_of([&] { share_tokens(pictures, options, 150); });
  EXPECT_NE(shared.find("the 2 images and videos together"), std::string::npos) << shared;
  EXPECT_NE(shared.find("--max-total-image-tokens"), std::string::npos) << shared;
  const std::string single = message_of([&] { limit_tokens(pictures[0], options[0], 50); });
  EXPECT_NE(single.find("500 x 500 cannot have fewer than"), std::string::npos) << single;
}

TEST(TokenBudget, ALevelIsAMaximumOfPixels) {
  const std::string source = kFolder + "video_25fps.mp4";
  MediaOptions level, pixels;
  level = at_level(level, 60);
  pixels.video_min_pixels = pixels.video_max_pixels = 60 * 784;
  const Picture a = load_video(source, level), b = load_video(source, pixels);
  EXPECT_EQ(a.grid, b.grid);
  ASSERT_EQ(a.patches.size(), b.patches.size());
  EXPECT_TRUE(std::equal(a.patches.span().begin(), a.patches.span().end(), b.patches.span().begin()));
}

TEST(TokenBudget, MeasuringGivesTheSizesOfLoading) {
  const auto same = [](const Picture& a, const Picture& b) {
    EXPECT_EQ(a.patches.size(), 0);
    EXPECT_GT(b.patches.size(), 0);
    EXPECT_EQ(a.grid, b.grid);
    EXPECT_EQ(a.original_width, b.original_width);
    EXPECT_EQ(a.original_height, b.original_height);
    EXPECT_EQ(a.resized_width, b.resized_width);
    EXPECT_EQ(a.frames, b.frames);
    EXPECT_EQ(a.is_video, b.is_video);
    EXPECT_EQ(a.second_per_grid, b.second_per_grid);
    EXPECT_EQ(tokens_under(a, {}), b.tokens(2));
  };
  for (const char* name : {"video_25fps.mp4", "video_ntsc.mp4", "video_vp9.webm", "video.ts"}) {
    same(measure_video(kFolder + name, {}), load_video(kFolder + name, {}));
  }
}

TEST(TokenBudget, OnlyARequestsReductionBelowTheUsableMinimumWarns) {
  Picture picture = measured(1000, 1000);
  picture.grid = {1, 32, 32};  // 256 tokens
  picture.tokens_wanted = 1280;
  EXPECT_EQ(reduction_warning(picture, 2), "");
  picture.grid = {1, 32, 30};
  EXPECT_NE(reduction_warning(picture, 2).find("240 of 1280"), std::string::npos);
  picture.tokens_wanted = 240;  // a thumbnail, or what the checkpoint's own limits say
  EXPECT_EQ(reduction_warning(picture, 2), "");
}

}  // namespace
}  // namespace fovea
