#include "plan/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string>

#include "base/control_groups.h"

namespace fovea {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// The number behind `name` in a file of "name value" lines ("MemAvailable:  123 kB").
std::optional<int64_t> field(const fs::path& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string word;
    int64_t value = 0;
    if (words >> word >> value && word == name) return value;
  }
  return std::nullopt;
}

std::optional<int64_t> number(const fs::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // missing, or "max"
}

// What one group leaves: its limit less what it uses, the cached files among that being free.
int64_t left_in(const fs::path& group, const char* limit_file, const char* used_file, const char* cached) {
  const auto limit = number(group / limit_file), used = number(group / used_file);
  if (!limit || !used) return kUnlimited;
  int64_t files = 0;
  for (const char* list : {"inactive_file", "active_file"}) {
    files += field(group / "memory.stat", std::string(cached) + list).value_or(0);
  }
  return std::max<int64_t>(*limit - *used + files, 0);
}

int64_t left_by_groups(const fs::path& root) {
  int64_t left = kUnlimited;
  for_control_groups(root, "memory", [&](const fs::path& group, GroupVersion version) {
    left = std::min(left, version == GroupVersion::v2
                              ? left_in(group, "memory.max", "memory.current", "")
                              : left_in(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"));
  });
  return left;
}

}  // namespace

ResidentMemory resident_memory() {
  const auto bytes = [](const char* name) { return field("/proc/self/status", name).value_or(0) * 1024; };
  return {bytes("RssAnon:"), bytes("RssFile:") + bytes("RssShmem:")};
}

int64_t available_memory(const fs::path& root) {
  const auto machine = field(root / "proc/meminfo", "MemAvailable:");
  const int64_t left = std::min(machine ? *machine * 1024 : kUnlimited, left_by_groups(root));
  return left == kUnlimited ? 0 : left + resident_memory().anonymous;
}

}  // namespace fovea
