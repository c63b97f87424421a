// Named policies that reproduce what others compute.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "base/precision.h"
#include "policy/nodes.h"

namespace fovea {

struct Preset {
  const char* name;
  const char* line;  // what it is, in one line
  AttentionKind attention;
  std::optional<DType> dtype;  // nothing: that of the model, or as asked
  // What it changes beyond the attention's own nodes; may be null.
  void (*adjust)(TowerPrecision& precision, Tower tower, DType dtype);

  // One layer of a tower of a model that computes in `model_dtype` (ignored when `dtype` is fixed).
  TowerPrecision tower(Tower tower, DType model_dtype) const;
};

std::span<const Preset> presets();
// Throws Error(invalid_argument) listing the names.
const Preset& preset_named(std::string_view name);

}  // namespace fovea
