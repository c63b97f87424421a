// A checkpoint's weights as several files, and the room they need.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace fovea {

inline constexpr int64_t kShardBytes = 5'000'000'000;  // Hugging Face's default

// "model.safetensors", or "model-00001-of-00002.safetensors" for the first of two.
std::string shard_name(size_t index, size_t count);
// The text of model.safetensors.index.json. names[i]: the tensors of shard i.
std::string shard_index(const std::vector<std::vector<std::string>>& names, int64_t total_bytes);
// Throws Error(exhausted) when the disk under `dir`, which exists, has no room for `needed` bytes.
void check_disk(const std::filesystem::path& dir, int64_t needed);

}  // namespace fovea
