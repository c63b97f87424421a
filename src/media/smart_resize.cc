#include "media/smart_resize.h"

#include <algorithm>
#include <cmath>

namespace fovea {
namespace {

constexpr double kAspectRatioMax = 200;

// std::nearbyint rounds halves to even in the default rounding mode, as Python's round() does: 70 / 28 -> 2.
int64_t round_to(int64_t side, int64_t factor) {
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(side) / static_cast<double>(factor))) *
         factor;
}

int64_t floor_to(double side, int64_t factor) {
  return static_cast<int64_t>(std::floor(side / static_cast<double>(factor))) * factor;
}

int64_t ceil_to(double side, int64_t factor) {
  return static_cast<int64_t>(std::ceil(side / static_cast<double>(factor))) * factor;
}

}  // namespace

void check_aspect_ratio(ImageSize size) {
  FOVEA_CHECK(size.height > 0 && size.width > 0);
  const double ratio = static_cast<double>(std::max(size.height, size.width)) /
                       static_cast<double>(std::min(size.height, size.width));
  if (ratio > kAspectRatioMax) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format(
            "a picture of {} x {} pixels (width x height): absolute aspect ratio must be smaller than "
            "200, got {}",
            size.width, size.height, ratio),
        "crop the picture or split it into several");
  }
}

ImageSize smart_resize(ImageSize size, int64_t factor, PixelLimits limits) {
  check_aspect_ratio(size);
  const double height = static_cast<double>(size.height), width = static_cast<double>(size.width);
  ImageSize resized{round_to(size.height, factor), round_to(size.width, factor)};
  const double area = static_cast<double>(resized.height) * static_cast<double>(resized.width);
  if (area > limits.max) {
    const double beta = std::sqrt(height * width / limits.max);
    resized = {std::max(factor, floor_to(height / beta, factor)),
               std::max(factor, floor_to(width / beta, factor))};
  } else if (area < limits.min) {
    const double beta = std::sqrt(limits.min / (height * width));
    resized = {ceil_to(height * beta, factor), ceil_to(width * beta, factor)};
  }
  // Only reachable with a minimum below one patch block, where the reference would divide by zero later.
  return {std::max(factor, resized.height), std::max(factor, resized.width)};
}

}  // namespace fovea
