#include "media/decode.h"

#include <string_view>
#include <utility>

#include "media/orientation.h"
#include "media/smart_resize.h"

namespace fovea {
namespace {

// Of either byte order, with 32-bit offsets or 64-bit ones (BigTIFF).
bool is_tiff(std::string_view head) {
  using namespace std::string_view_literals;
  return head.starts_with("II*\0"sv) || head.starts_with("MM\0*"sv) || head.starts_with("II+\0"sv) ||
         head.starts_with("MM\0+"sv);
}

Decoded decode_by_magic(Bytes bytes, const MediaOptions& options) {
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (head.starts_with("\xff\xd8\xff")) return decode_jpeg(bytes, options);
  if (head.starts_with("\x89PNG\r\n\x1a\n")) return decode_png(bytes, options);
  if (head.starts_with("RIFF") && head.size() >= 12 && head.substr(8, 4) == "WEBP")
    return decode_webp(bytes, options);
  if (head.starts_with("GIF87a") || head.starts_with("GIF89a")) return decode_gif(bytes, options);
  if (is_tiff(head)) return decode_tiff(bytes, options);
  if (head.starts_with("BM")) return decode_bmp(bytes, options);
  throw Error(ErrorKind::unsupported, "not a JPEG, PNG, WebP, GIF, BMP or TIFF picture",
              "convert it to one of these formats; videos are given by --video");
}

}  // namespace

Image decode_image(Bytes bytes, const MediaOptions& options) {
  Decoded decoded = decode_by_magic(bytes, options);
  return upright(std::move(decoded.image), decoded.orientation);
}

bool may_have_pages(Bytes head) { return is_tiff({reinterpret_cast<const char*>(head.data()), head.size()}); }

int64_t pages_in(Bytes bytes) { return may_have_pages(bytes) ? tiff_pages(bytes) : 1; }

void check_header(ImageSize size, const MediaOptions& options) {
  if (size.height <= 0 || size.width <= 0) {
    throw Error(ErrorKind::corrupt, fmt::format("the header claims {} x {} pixels", size.width, size.height),
                "re-export the picture");
  }
  if (size.height > options.pixels_decoded_max / size.width) {
    throw Error(ErrorKind::exhausted,
                fmt::format("the header claims {} x {} pixels, the limit is {} million", size.width,
                            size.height, options.pixels_decoded_max / 1000000),
                "scale the picture down before giving it to fovea");
  }
  check_aspect_ratio(size);
}

void rgba_to_rgb(const uint8_t* rgba, uint8_t* rgb, int64_t width, bool opaque) {
  for (int64_t x = 0; x < width; ++x, rgba += 4, rgb += 3) {
    const uint32_t opacity = opaque ? 255 : rgba[3];
    for (int c = 0; c < 3; ++c) {
      // Division by 255 rounded to nearest, without dividing.
      const uint32_t blend = 255 * (255 - opacity) + rgba[c] * opacity + 128;
      rgb[c] = static_cast<uint8_t>((blend + (blend >> 8)) >> 8);
    }
  }
}

void throw_truncated(const char* format) {
  throw Error(ErrorKind::corrupt, fmt::format("the {} file is truncated", format),
              "copy or download the file again");
}

void throw_corrupt(const char* format, const std::string& detail) {
  throw Error(ErrorKind::corrupt, fmt::format("the {} file is damaged: {}", format, detail),
              "copy or download the file again, or re-export it");
}

}  // namespace fovea
