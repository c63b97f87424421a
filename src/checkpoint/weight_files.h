// Which safetensors files make up a checkpoint.
#pragma once

#include <filesystem>
#include <vector>

#include "checkpoint/safetensors.h"

namespace fovea {

// model.safetensors, or every shard that model.safetensors.index.json lists, opened in the order of their
// names. Throws Error naming a missing shard, a shard outside the folder, or a tensor that is not where the
// index says.
std::vector<SafetensorsFile> open_weight_files(const std::filesystem::path& dir);

}  // namespace fovea
