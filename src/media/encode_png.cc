#include "media/encode_png.h"

#include <png.h>

#include "base/error.h"

namespace fovea {

std::string encode_png(const Image& image) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.size.width);
  png.height = static_cast<png_uint_32>(image.size.height);
  png.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string bytes(size, '\0');
  if (png_image_write_to_memory(&png, bytes.data(), &size, 0, image.rgb.data(), 0, nullptr) == 0) {
    throw Error(ErrorKind::exhausted,
                fmt::format("cannot encode a picture of {} x {}: {}", image.size.width, image.size.height,
                            png.message),
                "use smaller pictures");
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace fovea
