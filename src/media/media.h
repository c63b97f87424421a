// Images and videos turned into what the vision tower takes: normalised patches in the reference's order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/grid.h"
#include "media/image.h"

namespace fovea {

// What the checkpoint's processor files, the command line and a message decide.
struct MediaOptions {
  int64_t min_pixels = 56 * 56;
  int64_t max_pixels = 28 * 28 * 1280;
  int64_t patch_size = 14, temporal_patch_size = 2, merge_size = 2;
  double rescale_factor = 1.0 / 255;
  std::vector<double> mean{0.48145466, 0.4578275, 0.40821073};
  std::vector<double> std{0.26862954, 0.26130258, 0.27577711};
  // pil: Pillow 13, which may resample columns before rows; pil_12: Pillow up to 12, rows first always.
  enum class Resize { pil, pil_12, torchvision } resize = Resize::pil;
  int64_t page = 0, pages = 1;  // which of the pictures that a file holds (count_pages)
  // In place of the limits above, and of those of a frame below: the size wished for, made multiples of
  // patch_size * merge_size. Both or none.
  std::optional<int64_t> resized_height, resized_width;

  // Videos. Frames sampled per second, between min_frames and max_frames; or nframes of them.
  double fps = 2.0;
  int64_t min_frames = 4, max_frames = 768;
  std::optional<int64_t> nframes;
  std::optional<double> video_start, video_end;  // seconds: only this part
  // The request's limits of one frame; unset: 128 merged tokens, and 768 or fewer when many frames share
  // the token budget, which total_pixels replaces (pixels of all frames, two of which share their tokens).
  std::optional<int64_t> video_min_pixels, video_max_pixels, total_pixels;
  // The checkpoint's limits of one frame, applied to what the rules above made of it.
  std::optional<int64_t> processor_min_pixels, processor_max_pixels;
  // Tokens of an image or group of frames, from a request's token limits (token_budget.h): lowers the maxima
  // above and the default minimum of video frames, never a minimum that was given.
  std::optional<int64_t> token_level;
  int64_t tokens_max = int64_t{1} << 40;   // refuse what makes more, before its patches are computed
  int64_t pixels_decoded_max = 256 << 20;  // refuse larger pictures before decoding them
};

struct Picture {
  std::string source;  // as the user named it; data: URLs shortened, pages numbered
  bool is_video = false;
  bool listed = false;  // video given as a list of pictures
  int64_t original_height = 0, original_width = 0;
  // What the request's own rules make of it; resized further where the checkpoint's limits are narrower.
  ImageSize interim;
  int64_t resized_height = 0, resized_width = 0;
  Grid grid;
  int64_t frames = 1;          // video: frames sampled, before padding to temporal_patch_size
  double second_per_grid = 0;  // video: temporal_patch_size / sampled fps
  Buffer<float> patches;       // [grid.patches(), 3 * temporal_patch_size * patch_size^2]
  int64_t tokens_wanted = 0;   // what the checkpoint's own limits give; less is a request's doing
  int64_t tokens(int64_t merge_size) const { return grid.patches() / (merge_size * merge_size); }
};

// Pictures that a file holds, each of which MediaOptions::page can name: pages of a TIFF file, 1 of any
// other. Throws as load_image does when it is a TIFF file and damaged, and nothing otherwise.
int64_t count_pages(const std::string& source);

// source: a path, file:// URL or data: URL. Throws Error naming the source. One still image is repeated to
// temporal_patch_size frames.
Picture load_image(const std::string& source, const MediaOptions& options);
Picture load_video(const std::string& source, const MediaOptions& options);
// A list of frames taken at options.fps.
Picture load_frames(const std::vector<std::string>& sources, const MediaOptions& options);

// The same without patches: sizes and grid alone, before anything large is computed. tokens_max is not looked
// at. A still picture is decoded for it, of a video the packets are counted and one frame is decoded: a
// container that counts frames it never shows then loads as fewer frames than measured, never as more.
Picture measure_image(const std::string& source, const MediaOptions& options);
Picture measure_video(const std::string& source, const MediaOptions& options);
Picture measure_frames(const std::vector<std::string>& sources, const MediaOptions& options);

}  // namespace fovea
