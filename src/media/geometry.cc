#include "media/geometry.h"

#include <algorithm>

#include "media/frame_sampling.h"
#include "media/patches.h"

namespace fovea {

namespace {

ImageSize factor_resize(ImageSize size, PixelLimits limits, const MediaOptions& options) {
  return smart_resize(size, options.patch_size * options.merge_size, limits);
}

PixelLimits image_limits(const MediaOptions& options) {
  PixelLimits limits{static_cast<double>(options.min_pixels), static_cast<double>(options.max_pixels)};
  if (options.token_level) {
    limits.max = std::max(std::min(limits.max, static_cast<double>(level_pixels(options))), limits.min);
  }
  return limits;
}

ImageSize resized_size(const Picture& picture, const MediaOptions& options) {
  const ImageSize original{picture.original_height, picture.original_width};
  if (!picture.is_video) return factor_resize(original, image_limits(options), options);
  if (!picture.listed) return factor_resize(original, frame_limits(picture.frames, options), options);
  // The reference counts listed frames after padding them to an even number.
  const PixelLimits limits = frame_limits(picture.frames + picture.frames % 2, options);
  return factor_resize(listed_frame_size(original, options), limits, options);
}

}  // namespace

ImageSize listed_frame_size(ImageSize original, const MediaOptions& options) {
  constexpr double kTokensMin = 4, kTokensMax = 16384;
  const double factor = static_cast<double>(options.patch_size * options.merge_size), token = factor * factor;
  const PixelLimits limits{
      options.video_min_pixels ? static_cast<double>(*options.video_min_pixels) : kTokensMin * token,
      options.video_max_pixels ? static_cast<double>(*options.video_max_pixels) : kTokensMax * token};
  return factor_resize(original, limits, options);
}

Picture geometry_of(const Picture& picture) {
  Picture copy;
  copy.source = picture.source;
  copy.is_video = picture.is_video;
  copy.listed = picture.listed;
  copy.original_height = picture.original_height;
  copy.original_width = picture.original_width;
  copy.resized_height = picture.resized_height;
  copy.resized_width = picture.resized_width;
  copy.grid = picture.grid;
  copy.frames = picture.frames;
  copy.second_per_grid = picture.second_per_grid;
  copy.tokens_wanted = picture.tokens_wanted;
  return copy;
}

Picture with_geometry(const Picture& picture, const MediaOptions& options) {
  Picture copy = geometry_of(picture);
  set_geometry(copy, options);
  return copy;
}

void set_geometry(Picture& picture, const MediaOptions& options) {
  MediaOptions unlevelled = options;
  unlevelled.token_level.reset();
  ImageSize size = resized_size(picture, unlevelled);
  // What is below the level anyway stays to the pixel what it would be without one.
  if (options.token_level && size.height * size.width > level_pixels(options)) {
    size = resized_size(picture, options);
  }
  picture.resized_height = size.height;
  picture.resized_width = size.width;
  picture.grid = grid_of(size, picture.frames, options);
}

}  // namespace fovea
