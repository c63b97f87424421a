// The orientation a camera recorded, and turning the picture upright.
#pragma once

#include <span>

#include "media/image.h"

namespace fovea {

// The Orientation tag (0x0112) of an EXIF block, with or without its "Exif\0\0" prefix; 0 when there is none.
int exif_orientation(std::span<const uint8_t> exif);
// The first tiff:Orientation of an XMP packet; 0 when there is none. Pillow asks it when EXIF is silent.
int xmp_orientation(std::span<const uint8_t> xmp);

// PIL.ImageOps.exif_transpose: 1 to 8 as in the EXIF standard; any other value leaves the picture as it is.
Image upright(Image image, int orientation);

}  // namespace fovea
