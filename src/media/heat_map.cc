#include "media/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "media/patches.h"

namespace fovea {

namespace {

constexpr int64_t kGap = 8;           // pixels between the pictures of a sheet
constexpr uint8_t kGround = 0x80;     // of a sheet
constexpr float kDimmed = 0.45f;      // of a picture's light where the weight is 0
constexpr float kMostOpaque = 0.85f;  // of the colours over it

struct Colour {
  float red, green, blue;
};

// Dark blue to white over red: told apart in grey, and by those who see few colours.
Colour colour_of(float share) {
  constexpr std::array<Colour, 5> kScale{
      {{20, 20, 90}, {90, 25, 140}, {215, 50, 75}, {252, 160, 50}, {255, 250, 220}}};
  const float at = share * (kScale.size() - 1);
  const auto low = std::min(static_cast<size_t>(at), kScale.size() - 2);
  const float t = at - static_cast<float>(low);
  const Colour &a = kScale[low], &b = kScale[low + 1];
  return {a.red + t * (b.red - a.red), a.green + t * (b.green - a.green), a.blue + t * (b.blue - a.blue)};
}

uint8_t pixel(float value) { return static_cast<uint8_t>(std::clamp(value + 0.5f, 0.f, 255.f)); }

}  // namespace

Image seen_picture(const Picture& picture, int64_t group, const MediaOptions& options) {
  const Normaliser normaliser(options);
  Image image({picture.grid.h * options.patch_size, picture.grid.w * options.patch_size});
  read_frame(picture.patches.span(), group * options.temporal_patch_size, picture.grid, options, normaliser,
             image);
  return image;
}

Image heat_map(const Image& picture, int64_t rows, int64_t columns, std::span<const float> weights,
               float largest) {
  FOVEA_CHECK(std::ssize(weights) == rows * columns && largest > 0);
  Image drawn(picture.size);
  for (int64_t y = 0; y < picture.size.height; ++y) {
    const uint8_t* from = picture.row(y);
    uint8_t* to = drawn.row(y);
    const int64_t row = y * rows / picture.size.height;
    for (int64_t x = 0; x < picture.size.width; ++x, from += 3, to += 3) {
      const int64_t cell = row * columns + x * columns / picture.size.width;
      // The root: weights differ by orders of magnitude, and the eye sees few steps.
      const float share = std::sqrt(std::clamp(weights[static_cast<size_t>(cell)] / largest, 0.f, 1.f));
      const Colour over = colour_of(share);
      const float opaque = kMostOpaque * share, light = kDimmed + (1 - kDimmed) * share;
      const float below[3] = {from[0] * light, from[1] * light, from[2] * light},
                  above[3] = {over.red, over.green, over.blue};
      for (size_t c = 0; c < 3; ++c) to[c] = pixel(below[c] + opaque * (above[c] - below[c]));
    }
  }
  return drawn;
}

Image contact_sheet(std::span<const Image> pictures) {
  FOVEA_CHECK(!pictures.empty());
  const auto per_line = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(pictures.size()))));
  ImageSize cell;
  for (const Image& picture : pictures) {
    cell = {std::max(cell.height, picture.size.height), std::max(cell.width, picture.size.width)};
  }
  const int64_t lines = (std::ssize(pictures) + per_line - 1) / per_line;
  Image sheet({lines * (cell.height + kGap) - kGap, per_line * (cell.width + kGap) - kGap});
  std::fill_n(sheet.rgb.data(), sheet.rgb.size(), kGround);
  for (int64_t i = 0; i < std::ssize(pictures); ++i) {
    const Image& picture = pictures[static_cast<size_t>(i)];
    for (int64_t y = 0; y < picture.size.height; ++y) {
      std::copy_n(
          picture.row(y), picture.size.width * 3,
          sheet.row(i / per_line * (cell.height + kGap) + y) + i % per_line * (cell.width + kGap) * 3);
    }
  }
  return sheet;
}

}  // namespace fovea
