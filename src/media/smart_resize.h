// The size a picture is resized to before it is cut into patches.
#pragma once

#include "media/image.h"

namespace fovea {

// Bounds on height * width. Doubles, because the reference computes the bound of a video frame as a quotient.
struct PixelLimits {
  double min = 0, max = 0;
};

// The reference's smart_resize (transformers 4.57 and 5.23, models/qwen2_vl): both sides become multiples of
// `factor`, rounding halves to even as Python does, the area is brought inside `limits`, the aspect ratio is
// kept as nearly as that allows. Throws Error(invalid_argument) when the ratio of the sides exceeds 200.
ImageSize smart_resize(ImageSize size, int64_t factor, PixelLimits limits);

// The ratio test alone, for headers read before anything is decoded. Requires: both sides > 0.
void check_aspect_ratio(ImageSize size);

}  // namespace fovea
