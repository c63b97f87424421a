// A decoded picture: 8-bit RGB, interleaved, rows without padding.
#pragma once

#include <cstdint>

#include "base/buffer.h"

namespace fovea {

struct ImageSize {
  int64_t height = 0, width = 0;
  friend bool operator==(const ImageSize&, const ImageSize&) = default;
};

struct Image {
  Image() = default;
  explicit Image(ImageSize of) : size(of), rgb(of.height * of.width * 3) {}
  uint8_t* row(int64_t y) { return rgb.data() + y * size.width * 3; }
  const uint8_t* row(int64_t y) const { return rgb.data() + y * size.width * 3; }

  ImageSize size;
  Buffer<uint8_t> rgb;
};

}  // namespace fovea
