#include "media/patches.h"

#include <algorithm>
#include <cmath>

#include "kernels/pixels.h"
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
      tables_[c * 256 + static_cast<size_t>(value)] =
          (static_cast<float>(value * options.rescale_factor) - mean) / deviation;
    }
  }
}

Grid grid_of(ImageSize size, int64_t frames, const MediaOptions& options) {
  return {(frames + options.temporal_patch_size - 1) / options.temporal_patch_size,
          size.height / options.patch_size, size.width / options.patch_size};
}

namespace {

// Where the patches of one picture go.
struct PatchOrder {
  int64_t patch, merge, temporal;
  Grid grid;

  PatchOrder(const Grid& of, const MediaOptions& options)
      : patch(options.patch_size),
        merge(options.merge_size),
        temporal(options.temporal_patch_size),
        grid(of) {}
  int64_t plane() const { return patch * patch; }
  int64_t channel_stride() const { return temporal * plane(); }
  int64_t columns() const { return 3 * channel_stride(); }
  // Of the first channel of a frame in the patch at (row, column); the others follow at channel_stride().
  int64_t offset(int64_t frame, int64_t row, int64_t column) const {
    const int64_t block = (row / merge) * (grid.w / merge) + column / merge;
    const int64_t inside = (row % merge) * merge + column % merge;
    const int64_t index = frame / temporal * grid.h * grid.w + block * merge * merge + inside;
    return index * columns() + frame % temporal * plane();
  }
};

}  // namespace

void write_frames(const Image& image, int64_t first, int64_t count, const Grid& grid,
                  const MediaOptions& options, const Normaliser& normaliser, std::span<float> patches) {
  const PatchOrder order(grid, options);
  const int64_t patch = order.patch, width = image.size.width;
  FOVEA_CHECK(image.size.height == grid.h * patch && width == grid.w * patch);
  FOVEA_CHECK(first >= 0 && first + count <= grid.t * order.temporal);
  FOVEA_CHECK(static_cast<int64_t>(patches.size()) == grid.patches() * order.columns());
  for_each_band(grid.h, width * patch * 3, 1, [&](int64_t first_row, int64_t rows) {
    Buffer<float> planes(3 * width);  // of one row of pixels: in the nearest cache between two steps
    for (int64_t y = first_row * patch; y < (first_row + rows) * patch; ++y) {
      pixel_kernels().look_up_planes(image.row(y), width, normaliser.tables(), planes.data());
      for (int64_t frame = first; frame < first + count; ++frame) {
        for (int64_t column = 0; column < grid.w; ++column) {
          float* out = patches.data() + order.offset(frame, y / patch, column) + y % patch * patch;
          const float* in = planes.data() + column * patch;
          for (int64_t c = 0; c < 3; ++c)
            std::copy_n(in + c * width, patch, out + c * order.channel_stride());
        }
      }
    }
  });
}

namespace {

// The table's entry nearest to a value: tables rise, or fall where a deviation is negative.
uint8_t value_of(const float* table, float normalised) {
  const bool rises = table[255] > table[0];
  const auto before = [&](float entry, float value) { return rises ? entry < value : entry > value; };
  const float* above = std::lower_bound(table, table + 255, normalised, before);
  const bool lower = above != table && std::abs(above[-1] - normalised) < std::abs(*above - normalised);
  return static_cast<uint8_t>(above - table - (lower ? 1 : 0));
}

}  // namespace

void read_frame(std::span<const float> patches, int64_t frame, const Grid& grid, const MediaOptions& options,
                const Normaliser& normaliser, Image& image) {
  const PatchOrder order(grid, options);
  const int64_t patch = order.patch;
  FOVEA_CHECK(image.size.height == grid.h * patch && image.size.width == grid.w * patch);
  FOVEA_CHECK(frame >= 0 && frame < grid.t * order.temporal);
  FOVEA_CHECK(std::ssize(patches) == grid.patches() * order.columns());
  for (int64_t y = 0; y < image.size.height; ++y) {
    for (int64_t x = 0; x < image.size.width; ++x) {
      const float* from =
          patches.data() + order.offset(frame, y / patch, x / patch) + y % patch * patch + x % patch;
      for (int64_t c = 0; c < 3; ++c) {
        image.row(y)[x * 3 + c] = value_of(normaliser.tables() + c * 256, from[c * order.channel_stride()]);
      }
    }
  }
}

}  // namespace fovea
