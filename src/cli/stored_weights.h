// How weights are stored and held, in words.
#pragma once

#include <map>
#include <string>

#include "runtime/engine.h"

namespace fovea {

// "bf16", "int4", "awq of 4 bits, groups of 128".
std::string stored_as(const TensorInfo& tensor);

struct HeldWeights {
  int64_t bytes = 0;                         // of the files
  std::map<std::string, int64_t> stored_as;  // bytes by form
  std::string widened;                       // the forms that are widened when loaded, if any
  std::string type;                          // to which type
};
HeldWeights held_weights(const Engine& engine);

}  // namespace fovea
