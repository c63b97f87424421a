// A picture to preprocess.
#pragma once

#include "base/buffer.h"

namespace fovea::bench {

// A JPEG of quality 90: waves with fine noise, all values far from 0 and 255, as large a file as a
// photograph. Throws Error(exhausted) when the encoder fails.
Buffer<uint8_t> jpeg_photo(int64_t height, int64_t width);

}  // namespace fovea::bench
