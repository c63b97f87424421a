// Weights over a picture, drawn on what the model saw of it.
#pragma once

#include <span>

#include "base/grid.h"
#include "media/image.h"
#include "media/media.h"

namespace fovea {

// A frame group of a picture as the model saw it: resized, its first frame. [grid.h * patch, grid.w * patch]
// pixels. Requires the picture's patches, and the options that normalised them.
Image seen_picture(const Picture& picture, int64_t group, const MediaOptions& options);

// The picture dimmed, and over it a cell for each weight, [rows, columns] of them in equal cells: from
// nothing to blue, red and white as the weight goes from 0 to `largest`, which is above 0.
Image heat_map(const Image& picture, int64_t rows, int64_t columns, std::span<const float> weights,
               float largest);

// Pictures beside each other, in lines of about the same width and height, on grey.
Image contact_sheet(std::span<const Image> pictures);

}  // namespace fovea
