// The pictures of the suites: one coloured shape on a light ground with one handwritten digit inside.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "suite/digits.h"

namespace fovea {

inline constexpr std::array<std::string_view, 8> kColours{"red",    "green",  "blue", "yellow",
                                                          "purple", "orange", "cyan", "brown"};
inline constexpr std::array<std::string_view, 4> kShapes{"circle", "square", "diamond", "triangle"};

struct Card {
  size_t colour = 0;   // of kColours
  size_t shape = 0;    // of kShapes
  int64_t number = 0;  // 0 .. 9
};

struct CardImage {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> rgb;  // height x width x 3
};

// Size (84 to 140 pixels a side), place, slant, shades and the handwriting are random.
CardImage draw_card(const Card& card, DigitPool pool, SuiteRandom& random);

// Throws Error naming the file when it cannot be written.
void write_png(const std::filesystem::path& path, const CardImage& image);

}  // namespace fovea
