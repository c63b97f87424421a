// The patch grid of one image or video.
#pragma once

#include <cstdint>

namespace fovea {

// t x h x w patches, before merging.
struct Grid {
  int64_t t = 0, h = 0, w = 0;
  int64_t patches() const { return t * h * w; }
  friend bool operator==(const Grid&, const Grid&) = default;
};

}  // namespace fovea
