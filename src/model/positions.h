// M-RoPE position ids. Source: Qwen2_5_VLModel.get_rope_index of transformers 4.x, with the temporal step
// computed in floating point before it is truncated (the rule released with the model; some later versions
// truncate too early).
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

struct Positions {
  std::array<std::vector<int64_t>, 3> axis;  // t, h, w; one entry per token
  // The position of the token after the prompt: generated token i stands at next + i on all three axes.
  int64_t next = 0;
};

// ids: the expanded prompt. Every run of image / video tokens takes the next item; throws
// Error(invalid_argument) when runs and items do not match in number or length.
Positions mrope_positions(std::span<const int32_t> ids, std::span<const VisualItem> items,
                          const ModelConfig& config);

}  // namespace fovea
