// The quantization_config of a config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/config.h"

namespace fovea {

// `where` names the object in errors. A method that fovea does not know is `other`: only the tensors tell
// whether the note is still true. Throws Error(unsupported | corrupt | invalid_argument) naming the
// field.
QuantizationConfig read_quantization(const nlohmann::json& object, const std::string& where);

}  // namespace fovea
