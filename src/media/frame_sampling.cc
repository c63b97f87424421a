#include "media/frame_sampling.h"

#include <algorithm>
#include <cmath>

#include "media/geometry.h"

namespace fovea {
namespace {

constexpr int64_t kFrameFactor = 2;  // frame counts are multiples of this
constexpr double kFrameTokensMin = 128, kFrameTokensMax = 768;
constexpr double kVideoTokensMax = 128000 * 0.9;  // of all frames together; two frames share their tokens

// torch.linspace(first, last, count).round() in float32, which computes the second half back from the end.
std::vector<int64_t> spread_evenly(FrameRange range, int64_t count) {
  const float start = static_cast<float>(range.first), end = static_cast<float>(range.last);
  const float step = (end - start) / static_cast<float>(count - 1);
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < count; ++i) {
    const float at =
        i < count / 2 ? start + step * static_cast<float>(i) : end - step * static_cast<float>(count - i - 1);
    indices.push_back(static_cast<int64_t>(std::nearbyint(at)));
  }
  return indices;
}

// Halves go to the even number, as Python's round() does: 5 frames become 4, 3 become 4.
int64_t frames_asked_for(int64_t nframes, int64_t total) {
  const double pairs = std::nearbyint(static_cast<double>(nframes) / kFrameFactor);
  const int64_t count = static_cast<int64_t>(pairs) * kFrameFactor;
  if (count >= kFrameFactor && count <= total) return count;
  throw Error(ErrorKind::invalid_argument,
              fmt::format("nframes {} makes {} frames, the video or its part has {}", nframes, count, total),
              fmt::format("give nframes from {} to {}", kFrameFactor, total));
}

int64_t frames_at_rate(int64_t total, double video_fps, const MediaOptions& options) {
  const int64_t frames_min = (options.min_frames + kFrameFactor - 1) / kFrameFactor * kFrameFactor;
  const int64_t frames_max = std::min(options.max_frames, total) / kFrameFactor * kFrameFactor;
  const double wanted = static_cast<double>(total) / video_fps * options.fps;
  const double clamped = std::min({std::max(wanted, static_cast<double>(frames_min)),
                                   static_cast<double>(frames_max), static_cast<double>(total)});
  const int64_t count = static_cast<int64_t>(std::floor(clamped / kFrameFactor)) * kFrameFactor;
  if (count < kFrameFactor) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("a video of {} frames gives {} sampled frames, at least 2 are needed", total, count),
        total < kFrameFactor ? "give a single frame as an image" : "raise the maximum number of frames");
  }
  return count;
}

}  // namespace

FrameRange frame_range(int64_t total, double video_fps, const MediaOptions& options) {
  FOVEA_CHECK(video_fps > 0);
  const double duration = static_cast<double>(total) / video_fps;
  FrameRange range{0, total - 1};
  if (options.video_start) {
    range.first =
        static_cast<int64_t>(std::ceil(std::clamp(*options.video_start, 0.0, duration) * video_fps));
  }
  if (options.video_end) {
    const double end = std::floor(std::clamp(*options.video_end, 0.0, duration) * video_fps);
    range.last = std::min(static_cast<int64_t>(end), range.last);
  }
  if ((options.video_start || options.video_end) && range.first >= range.last) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("video_start {} and video_end {} leave no two frames of a video of {:.2f} seconds",
                    options.video_start.value_or(0), options.video_end.value_or(duration), duration),
        "give seconds within the video, the start before the end");
  }
  return range;
}

std::vector<int64_t> sample_frames(int64_t total, double video_fps, const MediaOptions& options) {
  const FrameRange range = frame_range(total, video_fps, options);
  const int64_t count = options.nframes ? frames_asked_for(*options.nframes, range.count())
                                        : frames_at_rate(range.count(), video_fps, options);
  return spread_evenly(range, count);
}

PixelLimits frame_limits(int64_t frames, const MediaOptions& options) {
  const double factor = static_cast<double>(options.patch_size * options.merge_size), token = factor * factor;
  PixelLimits limits;
  limits.min =
      options.video_min_pixels ? static_cast<double>(*options.video_min_pixels) : kFrameTokensMin * token;
  const double total =
      options.total_pixels ? static_cast<double>(*options.total_pixels) : kVideoTokensMax * token;
  const double share = total / static_cast<double>(frames) * static_cast<double>(kFrameFactor);
  limits.max = std::max(std::min(kFrameTokensMax * token, share), std::floor(limits.min * 1.05));
  if (options.video_max_pixels)
    limits.max = std::min(limits.max, static_cast<double>(*options.video_max_pixels));
  if (limits.max < limits.min) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("a video frame must have at least {} and at most {} pixels", limits.min, limits.max),
        "raise --max-pixels or lower --min-pixels");
  }
  if (options.token_level) {
    const auto level = static_cast<double>(level_pixels(options));
    if (!options.video_min_pixels) limits.min = std::min(limits.min, level);
    limits.max = std::max(std::min(limits.max, level), limits.min);
  }
  return limits;
}

}  // namespace fovea
