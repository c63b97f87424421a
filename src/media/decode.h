// Still picture formats. What comes out equals PIL.Image.open, exif_transpose, then the RGB conversion below.
//
// Alpha follows qwen_vl_utils: only pictures Pillow opens in mode RGBA (8-bit RGBA, 16-bit grey with alpha,
// 16-bit RGBA, WebP and BMP with alpha) are composited on white. Everything else is convert("RGB"), which
// ignores transparency: 8-bit grey with alpha, palettes with tRNS, a GIF's transparent index keep the colour
// beneath. 16-bit grey is clipped to 255 as convert("RGB") does, because the model is fed what the reference
// feeds it.
#pragma once

#include <span>

#include "media/image.h"
#include "media/media.h"

namespace fovea {

using Bytes = std::span<const uint8_t>;

struct Decoded {
  Image image;
  int orientation = 0;  // EXIF; 0 when unknown
};

// The format is chosen by the first bytes, never by a name. Throws Error on anything damaged, cut off, of an
// unknown format, or whose header claims more than options.pixels_decoded_max pixels or an aspect ratio above
// 200.
Image decode_image(Bytes bytes, const MediaOptions& options);

// One format each; decode_image dispatches to them.
Decoded decode_jpeg(Bytes bytes, const MediaOptions& options);
Decoded decode_png(Bytes bytes, const MediaOptions& options);
Decoded decode_webp(Bytes bytes, const MediaOptions& options);
Decoded decode_gif(Bytes bytes, const MediaOptions& options);
Decoded decode_bmp(Bytes bytes, const MediaOptions& options);

// Called by every decoder between the header and the first large allocation.
void check_header(ImageSize size, const MediaOptions& options);

// One row of RGBA to RGB under options.alpha, rounding as Pillow's paste with a mask.
void rgba_to_rgb(const uint8_t* rgba, uint8_t* rgb, int64_t width, MediaOptions::Alpha alpha);

[[noreturn]] void throw_truncated(const char* format);
[[noreturn]] void throw_corrupt(const char* format, const std::string& detail);

}  // namespace fovea
