#include "checkpoint/shards.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace fovea {

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

std::string shard_index(const std::vector<std::vector<std::string>>& names, int64_t total_bytes) {
  nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
  for (size_t i = 0; i < names.size(); ++i) {
    for (const std::string& name : names[i]) weight_map[name] = shard_name(i, names.size());
  }
  const nlohmann::ordered_json index{{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  return index.dump(2) + "\n";
}

void check_disk(const std::filesystem::path& dir, int64_t needed) {
  std::error_code failure;
  const std::filesystem::space_info space = std::filesystem::space(dir, failure);
  if (failure || space.available >= static_cast<uint64_t>(needed)) return;
  throw Error(ErrorKind::exhausted,
              fmt::format("{} needs {} bytes ({:.1f} GB), the disk has {} left", dir.string(), needed,
                          static_cast<double>(needed) / 1e9, space.available),
              "free disk space, or write to another disk");
}

}  // namespace fovea
