// What of a model one process holds: everything, or with a device map the parts that this rank computes.
// Weights of the others are neither read nor converted.
#pragma once

#include <cstdint>
#include <vector>

namespace fovea {

struct HeldParts {
  bool vision = true, embedding = true, head = true;
  std::vector<bool> layers = {};  // of the decoder; empty: all of them

  bool layer(int64_t i) const { return layers.empty() || layers[static_cast<size_t>(i)]; }
};

}  // namespace fovea
