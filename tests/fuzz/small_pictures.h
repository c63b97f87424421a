// What the picture and video targets allow: small, so that an input takes a millisecond or a few.
#pragma once

#include <string_view>

#include "media/decode.h"

namespace fovea::fuzz {

inline MediaOptions small_pictures() {
  MediaOptions options;
  options.pixels_decoded_max = 1 << 16;
  return options;
}

inline Bytes as_bytes(std::string_view bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
}

}  // namespace fovea::fuzz
