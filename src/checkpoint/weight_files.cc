#include "checkpoint/weight_files.h"

#include <map>
#include <set>

#include "base/error.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr size_t kMaxShards = 4096;

// A shard must be a plain name, or a hostile index could make fovea map any file of the machine.
void check_shard_name(const std::string& shard, const std::string& index) {
  const fs::path path(shard);
  const bool plain = !shard.empty() && shard.find('\0') == std::string::npos && path.filename() == path &&
                     shard != "." && shard != "..";
  if (plain) return;
  throw Error(ErrorKind::corrupt,
              fmt::format("{} names the file \"{}\" outside its folder", index, shard.substr(0, 200)),
              "get the index again from its source");
}

// tensor name -> shard
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string name = path.string();
  const nlohmann::json index = parse_json_object(read_json_text(path), name);
  const auto listed = index.find("weight_map");
  if (listed == index.end() || !listed->is_object() || listed->empty()) {
    throw Error(ErrorKind::corrupt, name + " has no weight_map", "get the index again from its source");
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& item : listed->items()) {
    if (!item.value().is_string()) {
      throw Error(ErrorKind::corrupt, fmt::format("{}: the shard of {} is no string", name, item.key()),
                  "get the index again from its source");
    }
    check_shard_name(item.value().get<std::string>(), name);
    shard_of.emplace(item.key(), item.value().get<std::string>());
  }
  return shard_of;
}

std::vector<SafetensorsFile> open_shards(const fs::path& dir) {
  const std::map<std::string, std::string> shard_of = read_index(dir / kIndex);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : shard_of) names.insert(shard);
  if (names.size() > kMaxShards) {
    throw Error(
        ErrorKind::exhausted,
        fmt::format("{} lists {} shards, the limit is {}", (dir / kIndex).string(), names.size(), kMaxShards),
        "get the index again from its source");
  }
  std::vector<SafetensorsFile> files;
  std::map<std::string, size_t> opened;
  for (const std::string& shard : names) {
    if (!path_exists(dir / shard)) {
      throw Error(ErrorKind::not_found,
                  fmt::format("shard {} is missing: {} lists it", (dir / shard).string(), kIndex),
                  "download the missing file into the folder");
    }
    opened.emplace(shard, files.size());
    files.push_back(SafetensorsFile::open(dir / shard));
  }
  for (const auto& [tensor, shard] : shard_of) {
    if (files[opened.at(shard)].find(tensor) == nullptr) {
      throw Error(ErrorKind::corrupt,
                  fmt::format("{} says {} holds tensor {}, but it does not", (dir / kIndex).string(), shard,
                              tensor.substr(0, 200)),
                  "download index and shards again, from one source");
    }
  }
  return files;
}

}  // namespace

bool has_weight_files(const fs::path& dir) { return path_exists(dir / kSingle) || path_exists(dir / kIndex); }

std::vector<std::string> missing_shards(const fs::path& dir) {
  if (path_exists(dir / kSingle) || !path_exists(dir / kIndex)) return {};
  std::set<std::string> missing;
  for (const auto& [tensor, shard] : read_index(dir / kIndex)) {
    if (!path_exists(dir / shard)) missing.insert(shard);
  }
  return {missing.begin(), missing.end()};
}

std::vector<SafetensorsFile> open_weight_files(const fs::path& dir) {
  if (path_exists(dir / kSingle)) {  // transformers, too, prefers it to an index
    std::vector<SafetensorsFile> files;
    files.push_back(SafetensorsFile::open(dir / kSingle));
    return files;
  }
  if (path_exists(dir / kIndex)) return open_shards(dir);
  throw Error(ErrorKind::not_found, fmt::format("{} holds neither {} nor {}", dir.string(), kSingle, kIndex),
              "download the safetensors weights; .bin and .gguf files are not supported");
}

}  // namespace fovea
