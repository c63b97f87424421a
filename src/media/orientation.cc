#include "media/orientation.h"

#include <string_view>
#include <utility>

#include "media/row_bands.h"

namespace fovea {
namespace {

using Bytes = std::span<const uint8_t>;

// Reads integers of a TIFF block in its own byte order; callers stay inside `bytes`.
struct TiffReader {
  Bytes bytes;
  bool little_endian;

  uint32_t u16(size_t at) const {
    const uint32_t a = bytes[at], b = bytes[at + 1];
    return little_endian ? a | b << 8 : a << 8 | b;
  }
  uint32_t u32(size_t at) const {
    return little_endian ? u16(at) | u16(at + 2) << 16 : u16(at) << 16 | u16(at + 2);
  }
  bool holds(size_t at, size_t count) const { return at <= bytes.size() && bytes.size() - at >= count; }
};

bool starts_with(Bytes bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() &&
         std::string_view(reinterpret_cast<const char*>(bytes.data()), prefix.size()) == prefix;
}

}  // namespace

int exif_orientation(Bytes exif) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  while (starts_with(exif, kPrefix)) exif = exif.subspan(kPrefix.size());
  if (exif.size() < 8 || (!starts_with(exif, "II") && !starts_with(exif, "MM"))) return 0;
  const TiffReader tiff{exif, exif[0] == 'I'};
  const size_t directory = tiff.u32(4);
  if (tiff.u16(2) != 42 || !tiff.holds(directory, 2)) return 0;
  const size_t entries = tiff.u16(directory);
  constexpr size_t kEntryBytes = 12;
  for (size_t i = 0; i < entries && tiff.holds(directory + 2 + i * kEntryBytes, kEntryBytes); ++i) {
    const size_t entry = directory + 2 + i * kEntryBytes;
    if (tiff.u16(entry) != 0x0112) continue;
    switch (tiff.u16(entry + 2)) {
      case 1:
        return exif[entry + 8];  // BYTE
      case 3:
        return static_cast<int>(tiff.u16(entry + 8));
      case 4:
        return static_cast<int>(tiff.u32(entry + 8) & 0xffff);
      default:
        return 0;
    }
  }
  return 0;
}

int xmp_orientation(Bytes xmp) {
  const std::string_view text(reinterpret_cast<const char*>(xmp.data()), xmp.size());
  constexpr std::string_view kKey = "tiff:Orientation";
  for (size_t at = text.find(kKey); at != text.npos; at = text.find(kKey, at + 1)) {
    std::string_view rest = text.substr(at + kKey.size());
    if (rest.starts_with("=\""))
      rest.remove_prefix(2);
    else if (rest.starts_with(">"))
      rest.remove_prefix(1);
    else
      continue;
    if (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') return rest[0] - '0';
  }
  return 0;
}

Image upright(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool transposed = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const ImageSize in = image.size;
  Image turned(transposed ? ImageSize{in.width, in.height} : in);
  // A step along an output row is a step along an input row or, transposed, along an input column.
  const int64_t step_x = flip_x ? -3 : 3, step_y = (flip_y ? -3 : 3) * in.width;
  const int64_t origin = (flip_x ? (in.width - 1) * 3 : 0) + (flip_y ? (in.height - 1) * in.width * 3 : 0);
  for_each_row(turned.size.height, turned.size.width * 3, [&](int64_t y) {
    int64_t from = origin + y * (transposed ? step_x : step_y);
    uint8_t* out = turned.row(y);
    for (int64_t x = 0; x < turned.size.width; ++x, out += 3, from += transposed ? step_y : step_x) {
      for (int64_t c = 0; c < 3; ++c) out[c] = image.rgb[from + c];
    }
  });
  return turned;
}

}  // namespace fovea
