// Which safetensors files make up a checkpoint.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"

namespace fovea {

// Whether the folder has model.safetensors or its index.
bool has_weight_files(const std::filesystem::path& dir);

// The shards that the index lists and the folder lacks; none where model.safetensors or no index is there.
// Throws Error(corrupt) for an index that is none.
std::vector<std::string> missing_shards(const std::filesystem::path& dir);

// model.safetensors, or every shard that model.safetensors.index.json lists, opened in the order of their
// names. Throws Error naming a missing shard, a shard outside the folder, or a tensor that is not where the
// index says.
std::vector<SafetensorsFile> open_weight_files(const std::filesystem::path& dir);

}  // namespace fovea
