// Goal: pictures of every format become the reference's pixels and patches, bit for bit.
// Method: files, expected pixels and hashes written by tools/make_media_goldens.py from Pillow, torch and
// transformers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "media/decode.h"
#include "media/media.h"
#include "media/resample.h"
#include "media/smart_resize.h"
#include "media/source.h"

namespace fovea {
namespace {

const std::string kFolder = std::string(FOVEA_SOURCE_DIR) + "/tests/data/media/";

// The words of each line of goldens.txt that starts with `kind`, that first word removed.
std::vector<std::vector<std::string>> goldens(const std::string& kind) {
  std::ifstream file(kFolder + "goldens.txt");
  std::vector<std::vector<std::string>> found;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    words >> word;
    if (word != kind) continue;
    found.emplace_back();
    while (words >> word) found.back().push_back(word);
  }
  EXPECT_FALSE(found.empty()) << "no lines of kind " << kind;
  return found;
}

Image decode(const std::string& name) {
  return decode_image(read_source(kFolder + name).span(), MediaOptions{});
}

// 64-bit FNV-1a over 32-bit words.
std::string fnv(const void* data, int64_t bytes) {
  uint64_t state = 0xCBF29CE484222325;
  for (int64_t i = 0; i < bytes / 4; ++i) {
    uint32_t word;
    std::memcpy(&word, static_cast<const char*>(data) + i * 4, 4);
    state = (state ^ word) * 0x100000001B3;
  }
  return fmt::format("{:016x}", state);
}

void expect_same(const Image& got, const Image& expected, const std::string& name) {
  ASSERT_EQ(got.size, expected.size) << name;
  int64_t different = 0, worst = 0, worst_at = 0;
  for (int64_t i = 0; i < got.rgb.size(); ++i) {
    const int64_t distance = std::abs(got.rgb[i] - expected.rgb[i]);
    different += distance != 0;
    if (distance > worst) worst = distance, worst_at = i;
  }
  EXPECT_EQ(different, 0) << name << ": worst " << worst << " at x " << worst_at / 3 % got.size.width << " y "
                          << worst_at / 3 / got.size.width << " channel " << worst_at % 3;
}

TEST(Golden, EveryFormatDecodesToPillowsPixels) {
  int64_t files = 0;
  for (const auto& words : goldens("patches")) {
    expect_same(decode(words[0]), decode("expected/" + words[0] + ".png"), words[0]);
    ++files;
  }
  EXPECT_GE(files, 110);
}

TEST(Golden, PatchesOfEveryFormatEqualTheSlowProcessor) {
  for (const auto& words : goldens("patches")) {
    const Picture picture = load_image(kFolder + words[0], MediaOptions{});
    EXPECT_EQ(std::to_string(picture.original_height), words[1]) << words[0];
    EXPECT_EQ(std::to_string(picture.original_width), words[2]) << words[0];
    EXPECT_EQ(fmt::format("{} {} {}", picture.grid.t, picture.grid.h, picture.grid.w),
              words[3] + " " + words[4] + " " + words[5])
        << words[0];
    EXPECT_EQ(fnv(picture.patches.data(), picture.patches.size() * 4), words[6]) << words[0];
  }
}

TEST(Golden, EveryPageOfATiffFileIsAPicture) {
  const std::string file = kFolder + "tiff_pages.tif";
  const auto pages = goldens("page");
  ASSERT_EQ(count_pages(file), std::ssize(pages));
  MediaOptions options;
  options.pages = std::ssize(pages);
  for (const auto& words : pages) {
    options.page = std::stoll(words[1]);
    const Image page = decode_image(read_source(file).span(), options);
    expect_same(page, decode("expected/" + words[2]), words[2]);
    const Picture picture = load_image(file, options);
    EXPECT_EQ(picture.source, fmt::format("{}, page {} of 3", file, options.page + 1));
    EXPECT_EQ(picture.original_height, page.size.height);
  }
  for (const char* single : {"png_rgb8.png", "gif_animated.gif", "tiff_fax_group4.tif"})
    EXPECT_EQ(count_pages(kFolder + single), 1) << single;
}

// The same as one of the hashes above, but with a distance to look at should arithmetic ever differ.
TEST(Golden, PatchesAreTheReferencesNumbers) {
  const Picture picture = load_image(kFolder + "png_rgb8.png", MediaOptions{});
  const Buffer<uint8_t> bytes = read_source(kFolder + "expected/png_rgb8.patches.f32");
  ASSERT_EQ(bytes.size(), picture.patches.size() * 4);
  double worst = 0;
  for (int64_t i = 0; i < picture.patches.size(); ++i) {
    float expected;
    std::memcpy(&expected, bytes.data() + i * 4, 4);
    worst = std::max<double>(worst, std::abs(picture.patches[i] - expected));
  }
  EXPECT_EQ(worst, 0);
}

Bicubic arithmetic_named(const std::string& name) {
  if (name == "pil") return Bicubic::pil;
  if (name == "pil_12") return Bicubic::pil_12;
  return name == "torch_u8" ? Bicubic::torch_u8 : Bicubic::torch_f32;
}

TEST(Golden, ResamplingEqualsPillowAndTorch) {
  for (const auto& words : goldens("resample")) {
    const Bicubic arithmetic = arithmetic_named(words[1]);
    const Image got =
        resample_bicubic(decode(words[0]), {std::stoll(words[2]), std::stoll(words[3])}, arithmetic);
    const Image expected = decode("expected/" + words[4]);
    if (arithmetic != Bicubic::torch_f32) {
      expect_same(got, expected, words[4]);
      continue;
    }
    // Float sums may be taken in another order, which can tip a value that lies on a half.
    ASSERT_EQ(got.size, expected.size);
    for (int64_t i = 0; i < got.rgb.size(); ++i)
      ASSERT_LE(std::abs(got.rgb[i] - expected.rgb[i]), 1) << words[4];
  }
}

TEST(Golden, ResamplingOfALargePictureEqualsPillowAndTorch) {
  Image large({1200, 1600});
  for (int64_t y = 0; y < 1200; ++y) {
    for (int64_t x = 0; x < 1600; ++x) {
      uint8_t* pixel = large.row(y) + x * 3;
      pixel[0] = static_cast<uint8_t>(x * 7 + y * 3);
      pixel[1] = static_cast<uint8_t>(x * y / 64);
      pixel[2] = static_cast<uint8_t>(x ^ y);
    }
  }
  for (const auto& words : goldens("large")) {
    const ImageSize size{std::stoll(words[1]), std::stoll(words[2])};
    const Image got = resample_bicubic(large, size, arithmetic_named(words[0]));
    EXPECT_EQ(fnv(got.rgb.data(), got.rgb.size()), words[3])
        << words[0] << " " << words[1] << " x " << words[2];
  }
}

TEST(Golden, SmartResizeEqualsTheReference) {
  for (const auto& words : goldens("smart_resize")) {
    std::vector<int64_t> n;
    for (const auto& word : words) n.push_back(std::stoll(word));
    const ImageSize size =
        smart_resize({n[0], n[1]}, n[2], {static_cast<double>(n[3]), static_cast<double>(n[4])});
    EXPECT_EQ(size.height, n[5]) << n[0] << " x " << n[1] << " factor " << n[2] << " limits " << n[3] << " "
                                 << n[4];
    EXPECT_EQ(size.width, n[6]) << n[0] << " x " << n[1] << " factor " << n[2] << " limits " << n[3] << " "
                                << n[4];
  }
}

}  // namespace
}  // namespace fovea
