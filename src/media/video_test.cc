// Goal: the frames a video gives are those the reference samples, upright, in order, at its size and timing.
// Method: generated videos whose frames show their own number; sampling tables from qwen_vl_utils' rules and
// torch. The colours come from swscale and a lossy codec, so block values are only asked to be nearer white
// or black.
#include "media/video.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "media/frame_sampling.h"
#include "media/geometry.h"
#include "media/source.h"

namespace fovea {
namespace {

const std::string kFolder = std::string(FOVEA_SOURCE_DIR) + "/tests/data/media/";

std::vector<std::vector<double>> goldens(const std::string& kind) {
  std::ifstream file(kFolder + "goldens.txt");
  std::vector<std::vector<double>> found;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word != kind) continue;
    found.emplace_back();
    while (words >> word) found.back().push_back(std::stod(word));
  }
  EXPECT_FALSE(found.empty()) << "no lines of kind " << kind;
  return found;
}

// The number a frame shows: eight blocks, black 0 and white 1, lowest bit first.
int64_t number_shown(const Image& image) {
  int64_t number = 0;
  for (int64_t bit = 0; bit < 8; ++bit) number |= int64_t{image.row(18)[(9 + bit * 10) * 3 + 1] > 128} << bit;
  return number;
}

std::vector<int64_t> numbers_of(const std::string& name, const std::vector<int64_t>& indices) {
  VideoReader reader(kFolder + name, MediaOptions{});
  std::vector<int64_t> numbers;
  reader.read(indices, [&](int64_t k, const Image& image) {
    EXPECT_EQ(k, static_cast<int64_t>(numbers.size()));
    EXPECT_EQ(image.size, (ImageSize{60, 90}));
    numbers.push_back(number_shown(image));
  });
  return numbers;
}

TEST(Video, SamplesTheReferencesFrames) {
  for (const auto& row : goldens("sampling")) {
    MediaOptions options;
    options.fps = row[2];
    options.min_frames = static_cast<int64_t>(row[3]);
    options.max_frames = static_cast<int64_t>(row[4]);
    const std::vector<int64_t> expected(row.begin() + 5, row.end());
    EXPECT_EQ(sample_frames(static_cast<int64_t>(row[0]), row[1], options), expected)
        << row[0] << " at " << row[1];
  }
}

TEST(Video, FrameSizesFollowTheTokenBudget) {
  for (const auto& row : goldens("frame_size")) {
    MediaOptions options;
    if (row[3] > 0) options.video_min_pixels = static_cast<int64_t>(row[3]);
    if (row[4] > 0) options.video_max_pixels = static_cast<int64_t>(row[4]);
    const ImageSize size = smart_resize({static_cast<int64_t>(row[1]), static_cast<int64_t>(row[2])}, 28,
                                        frame_limits(static_cast<int64_t>(row[0]), options));
    EXPECT_EQ(size, (ImageSize{static_cast<int64_t>(row[5]), static_cast<int64_t>(row[6])}))
        << row[0] << " frames of " << row[1] << " x " << row[2];
  }
}

TEST(Video, EveryContainerGivesTheFramesAskedFor) {
  struct Case {
    const char* name;
    double fps;
    int64_t frames;
  };
  for (const Case& video : {Case{"video_25fps.mp4", 25, 75}, Case{"video_ntsc.mp4", 30000 / 1001.0, 50},
                            Case{"video_short.mp4", 10, 3}, Case{"video_mpeg4.avi", 7, 21},
                            Case{"video_vp9.webm", 12, 30}, Case{"video.ts", 20, 40}}) {
    VideoReader reader(kFolder + video.name, MediaOptions{});
    EXPECT_NEAR(reader.fps(), video.fps, 1e-6) << video.name;
    EXPECT_EQ(reader.count_frames(), video.frames) << video.name;
    std::vector<int64_t> all(static_cast<size_t>(video.frames));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
    EXPECT_EQ(numbers_of(video.name, all), all) << video.name;
    const std::vector<int64_t> some{0, video.frames / 2, video.frames - 1};
    EXPECT_EQ(numbers_of(video.name, some), some) << video.name;
  }
}

TEST(Video, GeometryAndTimingAreTheReferences) {
  // 75 frames at 25 a second: 6 frames at 2 a second, 100352 pixels at least, so 60 x 90 grows to 280 x 392.
  const Picture picture = load_video(kFolder + "video_25fps.mp4", MediaOptions{});
  EXPECT_TRUE(picture.is_video);
  EXPECT_EQ(picture.frames, 6);
  EXPECT_EQ(picture.original_height, 60);
  EXPECT_EQ(picture.original_width, 90);
  EXPECT_EQ(picture.resized_height, 280);
  EXPECT_EQ(picture.resized_width, 392);
  EXPECT_EQ(picture.grid.t, 3);
  EXPECT_EQ(picture.grid.h, 20);
  EXPECT_EQ(picture.grid.w, 28);
  EXPECT_EQ(picture.patches.size(), 3 * 20 * 28 * 1176);
  EXPECT_EQ(picture.second_per_grid, 2 / (6 / 75.0 * 25));

  // 50 frames at 29.97 a second ask for 3.3 frames; the minimum makes them 4, sampled at 2.3976 a second.
  const Picture ntsc = load_video(kFolder + "video_ntsc.mp4", MediaOptions{});
  EXPECT_EQ(ntsc.frames, 4);
  EXPECT_NEAR(ntsc.second_per_grid, 2 / (4 / 50.0 * (30000 / 1001.0)), 1e-12);
}

// Values of qwen_vl_utils 0.0.14 (calculate_video_frame_range, smart_nframes, torch.linspace), worked out by
// hand.
TEST(Video, PartsAndCountsFollowTheReference) {
  MediaOptions options;
  options.video_start = 0.5;
  options.video_end = 2.1;
  const FrameRange range = frame_range(75, 25, options);  // ceil(12.5) to floor(52.5)
  EXPECT_EQ(range.first, 13);
  EXPECT_EQ(range.last, 52);
  // 40 frames at 25 a second, 2 a second: 3.2, at least 4: 13 + 13 k.
  EXPECT_EQ(sample_frames(75, 25, options), (std::vector<int64_t>{13, 26, 39, 52}));
  options.nframes = 3;  // rounds to the even number: 1.5 pairs are 2
  EXPECT_EQ(sample_frames(75, 25, options).size(), 4u);
  options.nframes = 5;  // 2.5 pairs are 2
  EXPECT_EQ(sample_frames(75, 25, options).size(), 4u);
  options.nframes = 6;  // 39 / 5 apart
  EXPECT_EQ(sample_frames(75, 25, options), (std::vector<int64_t>{13, 21, 29, 36, 44, 52}));
  for (const int64_t none : {1, 42}) {
    options.nframes = none;
    EXPECT_THROW(sample_frames(75, 25, options), Error) << none;
  }
  options = {};
  options.video_start = 2.99;  // nothing is left but the last frame
  EXPECT_THROW(sample_frames(75, 25, options), Error);
  options.video_start = 5;
  EXPECT_THROW(sample_frames(75, 25, options), Error);
  options.video_start = std::nullopt;
  options.video_end = 1000;  // beyond the end is the end
  EXPECT_EQ(frame_range(75, 25, options).last, 74);
}

TEST(Video, APartIsSampledAtItsOwnRate) {
  MediaOptions options;
  options.video_start = 1;
  options.video_end = 2;
  options.nframes = 2;
  options.video_min_pixels = 784;
  const Picture picture = load_video(kFolder + "video_25fps.mp4", options);  // frames 25 to 50
  EXPECT_EQ(picture.frames, 2);
  EXPECT_DOUBLE_EQ(picture.second_per_grid, 2 / (2 / 26.0 * 25));
}

// 560 x 420 frames under a processor's limit of 50176: measured with transformers, 168 x 252 (108 tokens of 4
// frames). Others by smart_resize of what qwen_vl_utils' rules make.
TEST(Video, TheProcessorsLimitsHoldOnTop) {
  const auto size = [](const MediaOptions& options, int64_t width, int64_t height, bool listed) {
    Picture picture;
    picture.is_video = true;
    picture.listed = listed;
    picture.original_width = width;
    picture.original_height = height;
    picture.frames = 4;
    set_geometry(picture, options);
    return std::pair(picture.resized_width, picture.resized_height);
  };
  MediaOptions options;
  EXPECT_EQ(size(options, 560, 420, true), std::pair(int64_t{560}, int64_t{420}));
  options.processor_min_pixels = 3136;
  options.processor_max_pixels = 12845056;  // as published: changes nothing
  EXPECT_EQ(size(options, 560, 420, true), std::pair(int64_t{560}, int64_t{420}));
  EXPECT_EQ(size(options, 100, 100, false), std::pair(int64_t{336}, int64_t{336}));
  options.processor_max_pixels = 50176;
  EXPECT_EQ(size(options, 560, 420, true), std::pair(int64_t{252}, int64_t{168}));
  EXPECT_EQ(size(options, 560, 420, false), std::pair(int64_t{252}, int64_t{168}));
  EXPECT_EQ(size(options, 100, 100, false), std::pair(int64_t{224}, int64_t{224}));  // 336, then sqrt(50176)
  options.processor_max_pixels = 1 << 20;
  options.processor_min_pixels = 401408;  // 560 x 420 * sqrt(401408 / 235200)
  EXPECT_EQ(size(options, 560, 420, false), std::pair(int64_t{756}, int64_t{560}));
}

TEST(Video, WishedSizesAndTotalsFollowTheReference) {
  MediaOptions options;
  Picture picture;
  picture.is_video = true;
  picture.original_width = 1280;
  picture.original_height = 720;
  picture.frames = 16;
  const auto check = [&](int64_t width, int64_t height) {
    set_geometry(picture, options);
    EXPECT_EQ(picture.resized_width, width);
    EXPECT_EQ(picture.resized_height, height);
  };
  options.resized_width = 410;  // 14.6 factors of 28
  options.resized_height = 290;
  check(420, 280);
  options.processor_max_pixels = 50176;
  check(252, 168);
  options = {};
  options.total_pixels = 16 * 150528 / 2;  // 150528 a frame: sqrt(1280 * 720 / 150528) = 2.4744
  check(504, 280);
  options.total_pixels = 1;  // the minimum of a frame stands: 105369 = 1.05 * 100352
  check(420, 224);
  picture.is_video = false;
  options = {};
  options.resized_width = options.resized_height = 56;
  check(56, 56);
  options.min_pixels = 12544;  // the processor's own minimum comes after
  check(112, 112);
  EXPECT_EQ(picture.interim, (ImageSize{56, 56}));
}

TEST(Video, ADataUrlEqualsTheFile) {
  const Buffer<uint8_t> bytes = read_source(kFolder + "video_vp9.webm");
  constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string url = "data:video/webm;base64,";
  for (int64_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (int64_t j = 0; j < 3; ++j) bits = bits << 8 | (i + j < bytes.size() ? bytes[i + j] : 0u);
    for (int64_t j = 0; j < 4; ++j) url += i + j <= bytes.size() ? kAlphabet[bits >> (18 - 6 * j) & 63] : '=';
  }
  const Picture from_url = load_video(url, MediaOptions{}),
                from_file = load_video(kFolder + "video_vp9.webm", {});
  ASSERT_EQ(from_url.patches.size(), from_file.patches.size());
  EXPECT_TRUE(
      std::equal(from_url.patches.span().begin(), from_url.patches.span().end(), from_file.patches.data()));
}

TEST(Video, RotationIsApplied) {
  VideoReader reader(kFolder + "video_rotated.mp4", MediaOptions{});
  std::vector<Image> frames;
  const MediaOptions options;
  reader.read({3}, [&](int64_t, const Image& image) {
    EXPECT_EQ(image.size, (ImageSize{90, 60}));
    // Block 0 lay at row 18, column 9; a quarter turn clockwise takes it to row 9, column 59 - 18.
    EXPECT_GT(image.row(9)[(59 - 18) * 3 + 1], 128) << "bit 0 of frame 3";
    EXPECT_GT(image.row(19)[(59 - 18) * 3 + 1], 128) << "bit 1 of frame 3";
    EXPECT_LT(image.row(29)[(59 - 18) * 3 + 1], 128) << "bit 2 of frame 3";
  });
}

TEST(Video, ColourMatrixAndRangeAreHonoured) {
  // The flat patch (200, 40, 60) survives H.264 at CRF 20 within a few steps only when BT.709 full range is
  // decoded so; decoded as BT.601 its red alone would be off by more than 10.
  for (const char* name : {"video_full_range.mp4", "video_25fps.mp4"}) {
    VideoReader reader(kFolder + name, MediaOptions{});
    reader.read({0}, [&](int64_t, const Image& image) {
      const uint8_t* pixel = image.row(44) + 40 * 3;
      EXPECT_NEAR(pixel[0], 200, 6) << name;
      EXPECT_NEAR(pixel[1], 40, 6) << name;
      EXPECT_NEAR(pixel[2], 60, 6) << name;
    });
  }
}

TEST(Video, AListOfFramesEqualsTheReference) {
  std::vector<std::string> sources;
  for (int i = 0; i < 3; ++i) sources.push_back(kFolder + fmt::format("frame_list_{}.png", i));
  MediaOptions options;
  const Picture picture = load_frames(sources, options);
  const auto grid = goldens("frame_list").at(0);
  EXPECT_EQ(picture.grid.t, grid[0]);
  EXPECT_EQ(picture.grid.h, grid[1]);
  EXPECT_EQ(picture.grid.w, grid[2]);
  // Every 997th value. torch may sum with fused multiply-adds, which can tip a pixel that lies on a half: one
  // step of 1/255, divided by the smallest deviation.
  const Buffer<uint8_t> bytes = read_source(kFolder + "expected/frame_list.f32");
  ASSERT_EQ(bytes.size() / 4, (picture.patches.size() + 996) / 997);
  int64_t tipped = 0;
  for (int64_t i = 0; i < bytes.size() / 4; ++i) {
    float expected;
    std::memcpy(&expected, bytes.data() + i * 4, 4);
    ASSERT_NEAR(picture.patches[i * 997], expected, 1 / 255.0 / 0.26130258 * 1.0001) << i;
    tipped += picture.patches[i * 997] != expected;
  }
  EXPECT_LE(tipped, bytes.size() / 4 / 100);
  EXPECT_EQ(picture.frames, 3);
  EXPECT_EQ(picture.second_per_grid, 1);
}

}  // namespace
}  // namespace fovea
