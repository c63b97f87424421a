#include "media/geometry.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "media/frame_sampling.h"
#include "media/patches.h"

namespace fovea {

namespace {

ImageSize factor_resize(ImageSize size, PixelLimits limits, const MediaOptions& options) {
  return smart_resize(size, options.patch_size * options.merge_size, limits);
}

// Of the level's maximum a minimum is never crossed.
void lower_to_level(PixelLimits& limits, const MediaOptions& options) {
  if (!options.token_level) return;
  limits.max = std::max(std::min(limits.max, static_cast<double>(level_pixels(options))), limits.min);
}

PixelLimits image_limits(const MediaOptions& options) {
  PixelLimits limits{static_cast<double>(options.min_pixels), static_cast<double>(options.max_pixels)};
  lower_to_level(limits, options);
  return limits;
}

// qwen_vl_utils' limits of a picture, and of a size that was wished for.
PixelLimits picture_limits(const MediaOptions& options) {
  constexpr double kTokensMin = 4, kTokensMax = 16384;
  const double factor = static_cast<double>(options.patch_size * options.merge_size), token = factor * factor;
  return {kTokensMin * token, kTokensMax * token};
}

std::optional<ImageSize> size_wished_for(const MediaOptions& options) {
  if (!options.resized_height || !options.resized_width) return std::nullopt;
  return factor_resize({*options.resized_height, *options.resized_width}, picture_limits(options), options);
}

ImageSize frame_size(const Picture& picture, ImageSize original, const MediaOptions& options) {
  if (!picture.listed) return factor_resize(original, frame_limits(picture.frames, options), options);
  // The reference counts listed frames after padding them to an even number.
  const PixelLimits limits = frame_limits(picture.frames + picture.frames % 2, options);
  return factor_resize(listed_frame_size(original, options), limits, options);
}

// The checkpoint's video processor resizes frames once more, to limits of its own.
ImageSize processed_frame(ImageSize interim, bool wished, const MediaOptions& options) {
  PixelLimits limits{static_cast<double>(options.processor_min_pixels.value_or(0)),
                     options.processor_max_pixels ? static_cast<double>(*options.processor_max_pixels)
                                                  : std::numeric_limits<double>::infinity()};
  if (wished) lower_to_level(limits, options);  // other frames were made within the level
  return factor_resize(interim, limits, options);
}

struct Sizes {
  ImageSize interim, resized;
};

Sizes sizes_of(const Picture& picture, const MediaOptions& options) {
  const ImageSize original{picture.original_height, picture.original_width};
  const std::optional<ImageSize> wished = size_wished_for(options);
  if (picture.is_video) {
    const ImageSize interim = wished ? *wished : frame_size(picture, original, options);
    return {interim, processed_frame(interim, wished.has_value(), options)};
  }
  const ImageSize resized = factor_resize(wished.value_or(original), image_limits(options), options);
  return {wished.value_or(resized), resized};
}

}  // namespace

ImageSize listed_frame_size(ImageSize original, const MediaOptions& options) {
  if (const std::optional<ImageSize> wished = size_wished_for(options)) return *wished;
  PixelLimits limits = picture_limits(options);
  if (options.video_min_pixels) limits.min = static_cast<double>(*options.video_min_pixels);
  if (options.video_max_pixels) limits.max = static_cast<double>(*options.video_max_pixels);
  return factor_resize(original, limits, options);
}

Picture geometry_of(const Picture& picture) {
  Picture copy;
  copy.source = picture.source;
  copy.is_video = picture.is_video;
  copy.listed = picture.listed;
  copy.original_height = picture.original_height;
  copy.original_width = picture.original_width;
  copy.interim = picture.interim;
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
  Sizes sizes = sizes_of(picture, unlevelled);
  // What is below the level anyway stays to the pixel what it would be without one.
  if (options.token_level && sizes.resized.height * sizes.resized.width > level_pixels(options)) {
    sizes = sizes_of(picture, options);
  }
  picture.interim = sizes.interim;
  picture.resized_height = sizes.resized.height;
  picture.resized_width = sizes.resized.width;
  picture.grid = grid_of(sizes.resized, picture.frames, options);
}

}  // namespace fovea
