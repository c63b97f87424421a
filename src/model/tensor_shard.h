// Tensor parallelism (Shoeybi et al. 2019, "Megatron-LM"): of every decoder layer each rank computes some
// query heads, with the keys and values that they read, and some columns of the MLP. What o_proj and
// down_proj make of a rank's part is a summand of the layer's output: two sums over the ranks for each layer
// and call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "checkpoint/config.h"

namespace fovea {

struct TensorShard {
  int64_t rank = 0, size = 1;
  // values = the sum over the ranks of theirs, in a fixed order, the same bits on every rank.
  std::function<void(std::span<float>)> sum;

  bool whole() const { return size == 1; }
};

// Neighbouring query heads that read one kv head.
struct HeadPiece {
  int64_t first_q, count, kv;
};

// What one rank computes of every layer.
struct TensorPart {
  int64_t first_q, heads_q, first_kv, heads_kv;  // a kv head may be on several ranks
  int64_t first_inner, inner;                    // columns of the MLP
  // Its heads from its own first on; one piece for all when every kv head has the same number of them.
  std::vector<HeadPiece> pieces;
};

// Heads and columns are cut as evenly as they go, columns at multiples of 64. Throws Error(invalid_argument)
// when there are more ranks than query heads.
TensorPart tensor_part(const TextConfig& config, const TensorShard& shard);

}  // namespace fovea
