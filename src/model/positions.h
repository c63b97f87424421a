// M-RoPE position ids. Source: Qwen2_5_VLModel.get_rope_index of transformers 4.x, with the temporal step
// computed in floating point before it is truncated (the rule released with the model; some later versions
// truncate too early), and of 5.24.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/grid.h"
#include "checkpoint/config.h"

namespace fovea {

// One image or video in the order of its placeholder tokens.
struct VisualItem {
  Grid grid;
  bool is_video = false;
  double second_per_grid = 0;  // video: seconds between two temporal patches
};

// Where text goes on after a video.
enum class VideoPositions {
  // At the video's largest position + 1, as the model was released and trained: transformers 4.x, vLLM.
  qwen,
  // At its first position + the longer side of its merged grid, whatever its time steps reached: transformers
  // 5.24. Text may then stand at positions that frames have too; what is generated still goes on at the
  // prompt's largest position + 1.
  transformers_5,
};

struct Positions {
  std::array<std::vector<int64_t>, 3> axis;  // t, h, w; one entry per token
  // The position of the token after the prompt: generated token i stands at next + i on all three axes.
  int64_t next = 0;
};

// ids: the expanded prompt. Every run of image / video tokens takes the next item; throws
// Error(invalid_argument) when runs and items do not match in number or length.
Positions mrope_positions(std::span<const int32_t> ids, std::span<const VisualItem> items,
                          const ModelConfig& config, VideoPositions after_video = VideoPositions::qwen);

}  // namespace fovea
