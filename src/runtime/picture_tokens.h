// Where a prompt's pictures stand.
#pragma once

#include <vector>

#include "base/grid.h"
#include "runtime/engine.h"

namespace fovea {

// A picture's tokens in a prompt: grid.patches() of them from first_token on, frame group by frame group, row
// by row.
struct PictureTokens {
  int64_t first_token = 0;
  Grid grid;  // of tokens: a merged block of patches each
};
std::vector<PictureTokens> picture_tokens(const Prompt& prompt, const ModelConfig& config);

}  // namespace fovea
