// Images and videos turned into what the vision tower takes: normalised patches in the reference's order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/grid.h"

namespace fovea {

// What preprocessor_config.json and the command line decide.
struct MediaOptions {
  int64_t min_pixels = 56 * 56;
  int64_t max_pixels = 28 * 28 * 1280;
  int64_t patch_size = 14, temporal_patch_size = 2, merge_size = 2;
  double rescale_factor = 1.0 / 255;
  std::vector<double> mean{0.48145466, 0.4578275, 0.40821073};
  std::vector<double> std{0.26862954, 0.26130258, 0.27577711};
  // pil: Pillow 13, which may resample columns before rows; pil_12: Pillow up to 12, rows first always.
  enum class Resize { pil, pil_12, torchvision } resize = Resize::pil;
  enum class Alpha { white, drop } alpha = Alpha::white;  // white: qwen_vl_utils; drop: PIL's convert("RGB")
  double fps = 2.0;                                       // video: frames sampled per second
  int64_t min_frames = 4, max_frames = 768;
  // Limits of one video frame; unset: 128 merged tokens, and 768 or fewer when many frames share the token
  // budget.
  std::optional<int64_t> video_min_pixels, video_max_pixels;
  // Tokens of an image or group of frames, from a request's token limits (token_budget.h): lowers the maxima
  // above and the default minimum of video frames, never a minimum that was given.
  std::optional<int64_t> token_level;
  int64_t tokens_max = int64_t{1} << 40;   // refuse what makes more, before its patches are computed
  int64_t pixels_decoded_max = 256 << 20;  // refuse larger pictures before decoding them
};

struct Picture {
  std::string source;  // as the user named it
  bool is_video = false;
  bool listed = false;  // video given as a list of pictures
  int64_t original_height = 0, original_width = 0;
  int64_t resized_height = 0, resized_width = 0;
  Grid grid;
  int64_t frames = 1;          // video: frames sampled, before padding to temporal_patch_size
  double second_per_grid = 0;  // video: temporal_patch_size / sampled fps
  Buffer<float> patches;       // [grid.patches(), 3 * temporal_patch_size * patch_size^2]
  int64_t tokens_wanted = 0;   // what the checkpoint's own limits give; less is a request's doing
  int64_t tokens(int64_t merge_size) const { return grid.patches() / (merge_size * merge_size); }
};

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
