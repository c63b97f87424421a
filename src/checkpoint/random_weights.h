// Random weights that are the same on every machine, whatever the number of threads.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/checkpoint.h"

namespace fovea {

// How one tensor is drawn: element i is mean + deviate(key, i) * scale, rounded once to `dtype`.
struct RandomTensor {
  uint64_t key = 0;
  float mean = 0;
  float scale = 0;
  DType dtype = DType::bf16;
};

// Scales that keep activations finite and of unit order at any depth: fan-in for projections, 1 / sqrt(2
// blocks) more for those that write to the residual, norms near 1, small biases.
RandomTensor random_tensor(const ExpectedTensor& tensor, const ModelConfig& config, uint64_t seed);

// Elements [begin, begin + count) into `out`, in the storage type.
void fill_random(const RandomTensor& tensor, int64_t begin, int64_t count, void* out);

}  // namespace fovea
