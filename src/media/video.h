// Frames of a video file through FFmpeg, one at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "media/image.h"
#include "media/media.h"

namespace fovea {

// Opens local files and data: URLs only; playlists and other formats that name further files are refused.
class VideoReader {
 public:
  VideoReader(const std::string& source, const MediaOptions& options);
  ~VideoReader();
  VideoReader(const VideoReader&) = delete;
  VideoReader& operator=(const VideoReader&) = delete;

  double fps() const;
  // Frames as the container counts them: its packets, read through once without decoding.
  int64_t count_frames();
  // Calls take(k, frame) for each k with the frame of index indices[k], turned upright; indices ascend.
  // Decodes from the start and returns the number of frames decoded, which is less than the last index + 1
  // only when the container counted frames that are never shown.
  int64_t read(const std::vector<int64_t>& indices, const std::function<void(int64_t, const Image&)>& take);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fovea
