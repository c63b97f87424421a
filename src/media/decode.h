// Still picture formats. What comes out equals PIL.Image.open, exif_transpose, then the RGB conversion below.
//
// Whatever a file states of transparency is composited on white, as transformers 5.24 does with a picture of
// Pillow (image_transforms.convert_to_rgb): alpha channels, palettes with tRNS, the transparent grey or
// colour of PNG, the transparent index of GIF. qwen_vl_utils 0.0.14 does so for mode RGBA alone and shows
// what lies beneath the rest, often black on black. 16-bit grey is clipped to 255 as convert("RGB") does,
// because the model is fed what the reference feeds it.
//
// A TIFF file may hold several pages; each is a picture of its own (MediaOptions::page). Its pixels are
// libtiff's: 16 bits of a colour are scaled to 8.
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
Decoded decode_tiff(Bytes bytes, const MediaOptions& options);

// Pages of a file that decode_image reads: 1 but for TIFF. Throws Error(exhausted) beyond kPagesMax.
inline constexpr int64_t kPagesMax = 1000;
int64_t pages_in(Bytes bytes);
bool may_have_pages(Bytes head);  // the first 4 bytes decide
int64_t tiff_pages(Bytes bytes);

// Called by every decoder between the header and the first large allocation.
void check_header(ImageSize size, const MediaOptions& options);

// One row of RGBA to RGB, on white, rounding as Pillow does; `opaque`: the fourth value says nothing.
void rgba_to_rgb(const uint8_t* rgba, uint8_t* rgb, int64_t width, bool opaque = false);

[[noreturn]] void throw_truncated(const char* format);
[[noreturn]] void throw_corrupt(const char* format, const std::string& detail);

}  // namespace fovea
