// Adapters of PEFT: files that change a base model's weights. They are recognised and named, not applied.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace fovea {

// "a LoRA adapter for "BASE" (adapter_config.json)" where such files lie in `dir`, nothing where none does.
// Whatever adapter_config.json holds, no error.
std::optional<std::string> adapter_in(const std::filesystem::path& dir);

// Throws Error(unsupported) naming the adapter when it is all that `dir` holds: no config.json or no weights.
void refuse_adapter_alone(const std::filesystem::path& dir);

}  // namespace fovea
