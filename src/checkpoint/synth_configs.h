// The JSON files of a synthetic checkpoint.
#pragma once

#include <string>
#include <string_view>

#include "checkpoint/config.h"

namespace fovea {

// The config.json of "3b", "7b", "32b" or "72b" in the published (flat) layout, or that of the file `shape`
// with its dtype stated.
// Throws Error(invalid_argument) when it is neither.
std::string synthetic_config_json(const std::string& shape);

std::string synthetic_generation_json();
std::string synthetic_preprocessor_json(const VisionConfig& vision);
std::string synthetic_tokenizer_config_json(std::string_view chat_template);
std::string chat_template_json(std::string_view chat_template);

}  // namespace fovea
