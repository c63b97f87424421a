// Small pictures that an audit carries as data: URLs. Whoever wrote the JSON may have written anything there,
// and a browser is made to decode it: so only what is surely a small PNG is let through.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace fovea::report {

struct Thumbnail {
  std::string url;  // as given, and nothing but data:image/png;base64, and base64 behind it
  int64_t width = 0, height = 0;
};

// Nothing unless `url` is exactly the base64 of one PNG: complete chunks from IHDR to IEND that are none but
// those a picture of eight bits needs (sRGB may say what its values mean), at most kThumbnailBytes and
// kThumbnailPixels a side.
std::optional<Thumbnail> thumbnail_of(const std::string& url);

inline constexpr size_t kThumbnailBytes = 48 << 10;
inline constexpr int64_t kThumbnailPixels = 256;

}  // namespace fovea::report
