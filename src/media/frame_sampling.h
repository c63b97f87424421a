// Which frames of a video the model sees and how large: the rules of qwen_vl_utils (vision_process.py,
// 0.0.14).
#pragma once

#include <vector>

#include "media/media.h"
#include "media/smart_resize.h"

namespace fovea {

// The frames that video_start and video_end leave of a video, the first and the last one included. Throws
// Error(invalid_argument) when they leave fewer than two.
struct FrameRange {
  int64_t first = 0, last = 0;
  int64_t count() const { return last - first + 1; }
};
FrameRange frame_range(int64_t total, double video_fps, const MediaOptions& options);

// Indices of the frames taken from a video of `total` frames at `video_fps`: options.fps a second, an even
// number between min_frames and max_frames, or options.nframes, spread evenly from the first frame of its
// range to the last. Throws Error(invalid_argument) when the video has fewer than two frames or fps and
// limits leave fewer.
std::vector<int64_t> sample_frames(int64_t total, double video_fps, const MediaOptions& options);

// The pixel limits of each of `frames` frames. A maximum given by the user can only lower the limit.
PixelLimits frame_limits(int64_t frames, const MediaOptions& options);

}  // namespace fovea
