// Pictures that fovea draws, as PNG.
#pragma once

#include <string>

#include "media/image.h"

namespace fovea {

// The bytes of a PNG file. Throws Error(exhausted) for a picture that PNG cannot hold.
std::string encode_png(const Image& image);

}  // namespace fovea
