// A folder that stands for a model of which only the config is known: everything that planning looks at, and
// weights that are holes.
#pragma once

#include <filesystem>
#include <string>

namespace fovea {

// shape: "3b", "7b", "32b", "72b" or the path of a config.json. Writes config.json, the published tokenizer,
// chat template and preprocessor config, and a model.safetensors of the right size without a byte of data,
// which takes no room on a file system that knows holes. `out` exists. Throws Error(unsupported) for a config
// of quantized weights, Error(exhausted | io) when the files cannot be made.
void write_hollow_checkpoint(const std::string& shape, const std::filesystem::path& out);

}  // namespace fovea
