// What one call of a tower allocates, computed from shapes. The formulas stand beside the code that allocates
// (VisionTower::memory, Decoder::memory).
#pragma once

#include <algorithm>
#include <cstdint>

namespace fovea {

struct CallMemory {
  int64_t activations = 0;  // held while the layers run
  int64_t attention = 0;    // scratch of the largest attention call, beside them
  int64_t products = 0;     // scratch of the largest projection
  int64_t merging = 0;      // vision: held while the merger runs, after the layers; its scratch included

  int64_t peak() const { return std::max(activations + attention + products, merging); }
};

}  // namespace fovea
