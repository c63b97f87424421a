// The quantization_config of a config.json.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/config.h"

namespace fovea {

// `where` names the object in errors. Throws Error(unsupported | corrupt | invalid_argument) naming the
// field.
QuantizationConfig read_quantization(const nlohmann::json& object, const std::string& where);

}  // namespace fovea
