#include "media/libraries.h"

#include <fmt/format.h>
#include <png.h>
#include <webp/decode.h>

// jpeglib.h needs these before it.
#include <jpeglib.h>

#include <cstddef>
#include <cstdio>

#include "media/ffmpeg.h"

namespace fovea {

namespace {

std::string jpeg_library() {
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
  constexpr int kNumber = LIBJPEG_TURBO_VERSION_NUMBER;
  return fmt::format("libjpeg-turbo {}.{}.{}", kNumber / 1000000, kNumber / 1000 % 1000, kNumber % 1000);
#else
  return fmt::format("libjpeg {}", JPEG_LIB_VERSION);
#endif
}

}  // namespace

std::vector<std::string> media_libraries() {
  const int webp = WebPGetDecoderVersion();
  return {fmt::format("FFmpeg {}", av_version_info()), jpeg_library(),
          fmt::format("libpng {}", png_get_libpng_ver(nullptr)),
          fmt::format("libwebp {}.{}.{}", webp >> 16, webp >> 8 & 255, webp & 255)};
}

}  // namespace fovea
