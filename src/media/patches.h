// Normalisation and the reference's patch order.
#pragma once

#include <array>
#include <span>

#include "media/image.h"
#include "media/media.h"

namespace fovea {

// 8-bit pixels have 256 values a channel, so rescaling and normalising is a table, computed once exactly as
// the reference's slow processor does: float32(pixel * rescale_factor), minus mean, over std, all three in
// float32.
class Normaliser {
 public:
  // Throws Error(invalid_argument) unless there are three finite means and three non-zero deviations.
  explicit Normaliser(const MediaOptions& options);
  // [channel, value]
  const float* tables() const { return tables_.data(); }

 private:
  std::array<float, 3 * 256> tables_;
};

// The patch grid of `frames` frames of `size`, after padding to whole temporal patches.
Grid grid_of(ImageSize size, int64_t frames, const MediaOptions& options);

// Writes a picture as the frames `first` to `first + count` - 1 into its places in `patches` [grid.patches(),
// 3 * temporal * patch * patch]. Rows: t, merged row, merged column, then row and column inside the merge
// block; columns: channel, frame, y, x.
void write_frames(const Image& image, int64_t first, int64_t count, const Grid& grid,
                  const MediaOptions& options, const Normaliser& normaliser, std::span<float> patches);

// The other way: one frame's pixels out of the patches, exact where write_frames() wrote them with the same
// normaliser. `image` has the frame's size.
void read_frame(std::span<const float> patches, int64_t frame, const Grid& grid, const MediaOptions& options,
                const Normaliser& normaliser, Image& image);

}  // namespace fovea
