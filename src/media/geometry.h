// How large a picture becomes and how many patches it has: arithmetic alone.
#pragma once

#include "media/media.h"
#include "media/smart_resize.h"

namespace fovea {

// qwen_vl_utils treats each listed frame as an image first, with an image's limits unless the user gave some.
ImageSize listed_frame_size(ImageSize original, const MediaOptions& options);

// The area of options.token_level tokens.
inline int64_t level_pixels(const MediaOptions& options) {
  const int64_t side = options.patch_size * options.merge_size;
  return *options.token_level * side * side;
}

// Sets resized size and grid of a picture whose original size, frames and kind are known. Throws
// Error(invalid_argument) as smart_resize and frame_limits do.
void set_geometry(Picture& picture, const MediaOptions& options);

// A copy without patches, as it is and with the geometry that these options give.
Picture geometry_of(const Picture& picture);
Picture with_geometry(const Picture& picture, const MediaOptions& options);

}  // namespace fovea
