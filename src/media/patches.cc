#include "media/patches.h"

#include <cmath>

#include "media/row_bands.h"

namespace fovea {

Normaliser::Normaliser(const MediaOptions& options) {
  if (options.mean.size() != 3 || options.std.size() != 3) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("image_mean has {} values and image_std {}, both need 3", options.mean.size(),
                            options.std.size()),
                "correct preprocessor_config.json");
  }
  for (size_t c = 0; c < 3; ++c) {
    const float mean = static_cast<float>(options.mean[c]), deviation = static_cast<float>(options.std[c]);
    if (!std::isfinite(mean) || !std::isfinite(deviation) || deviation == 0 ||
        !std::isfinite(options.rescale_factor)) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("channel {} would be normalised with mean {} and std {}", c, mean, deviation),
                  "correct image_mean, image_std and rescale_factor in preprocessor_config.json");
    }
    for (int value = 0; value < 256; ++value) {
      table_[c][static_cast<size_t>(value)] =
          (static_cast<float>(value * options.rescale_factor) - mean) / deviation;
    }
  }
}

Grid grid_of(ImageSize size, int64_t frames, const MediaOptions& options) {
  return {(frames + options.temporal_patch_size - 1) / options.temporal_patch_size,
          size.height / options.patch_size, size.width / options.patch_size};
}

void write_frame(const Image& image, int64_t frame, const Grid& grid, const MediaOptions& options,
                 const Normaliser& normaliser, std::span<float> patches) {
  const int64_t patch = options.patch_size, merge = options.merge_size,
                temporal = options.temporal_patch_size;
  const int64_t plane = patch * patch, columns = 3 * temporal * plane, t = frame / temporal,
                slot = frame % temporal;
  FOVEA_CHECK(image.size.height == grid.h * patch && image.size.width == grid.w * patch && t < grid.t);
  FOVEA_CHECK(static_cast<int64_t>(patches.size()) == grid.patches() * columns);
  const int64_t blocks_across = grid.w / merge;
  for_each_row(grid.h, grid.w * plane * 3, [&](int64_t patch_row) {
    for (int64_t patch_column = 0; patch_column < grid.w; ++patch_column) {
      const int64_t block = (patch_row / merge) * blocks_across + patch_column / merge;
      const int64_t inside = (patch_row % merge) * merge + patch_column % merge;
      float* out =
          patches.data() + (t * grid.h * grid.w + block * merge * merge + inside) * columns + slot * plane;
      for (int64_t y = 0; y < patch; ++y) {
        const uint8_t* in = image.row(patch_row * patch + y) + patch_column * patch * 3;
        for (int c = 0; c < 3; ++c) {
          float* line = out + c * temporal * plane + y * patch;
          const float* table = normaliser.channel(c);
          for (int64_t x = 0; x < patch; ++x) line[x] = table[in[x * 3 + c]];
        }
      }
    }
  });
}

}  // namespace fovea
