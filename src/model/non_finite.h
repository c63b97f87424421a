// Which node of a layer made a non-finite value, and the error that says so. Runs after a failure only.
#pragma once

#include <cstdint>
#include <string>

#include "attention/problem.h"

namespace fovea {

// What one attention half left behind: [rows, ...] each.
struct AttentionTrace {
  const AttentionProblem& problem;
  const float* qkv;  // q, k and v of a row side by side; null: problem has them as they were computed
  int64_t qkv_width;
  const float* projected;  // what the o projection returned
  int64_t projected_count;
};

struct MlpTrace {
  const float *gated, *up, *down;  // silu(gate) * up; up; the down projection
  int64_t inner_count, down_count;
};

// "text" or "vision", and "decoder layer 3" or "vision block 3".
struct LayerName {
  const char* tower;
  const char* what;
  int64_t index;
};

// Throw Error(numeric) naming the layer and its first node with a non-finite value.
[[noreturn]] void refuse_attention(const LayerName& layer, const TowerPrecision& precision,
                                   const AttentionTrace& trace);
[[noreturn]] void refuse_mlp(const Kernels& kernels, const LayerName& layer, const TowerPrecision& precision,
                             const MlpTrace& trace);

}  // namespace fovea
