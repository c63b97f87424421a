#include "base/processors.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "base/control_groups.h"

namespace fovea {

namespace {

namespace fs = std::filesystem;

// "0-3,8,10-11"
std::vector<int> cpus_in(const fs::path& path) {
  std::ifstream file(path);
  std::vector<int> cpus;
  for (std::string range; std::getline(file, range, ',');) {
    int first = 0, last = 0;
    char dash = 0;
    std::istringstream words(range);
    if (!(words >> first)) continue;
    if (!(words >> dash >> last)) last = first;
    constexpr int kMost = 1 << 16;  // of a broken file
    for (int cpu = first; cpu <= std::min(last, first + kMost); ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

std::map<int, int> node_of_cpu(const fs::path& root) {
  std::map<int, int> nodes;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(root / "sys/devices/system/node", none)) {
    const std::string name = entry.path().filename().string();
    int node = 0;
    if (name.rfind("node", 0) != 0) continue;
    if (std::from_chars(name.data() + 4, name.data() + name.size(), node).ec != std::errc()) continue;
    for (const int cpu : cpus_in(entry.path() / "cpulist")) nodes[cpu] = node;
  }
  return nodes;
}

// The quota of one group in CPUs: "200000 100000" or "max 100000"; in version 1 two files, -1 for none.
std::optional<double> share_of(const fs::path& group, GroupVersion version) {
  double quota = 0, period = 0;
  if (version == GroupVersion::v2) {
    std::ifstream file(group / "cpu.max");
    if (!(file >> quota >> period)) return std::nullopt;
  } else {
    std::ifstream quota_file(group / "cpu.cfs_quota_us"), period_file(group / "cpu.cfs_period_us");
    if (!(quota_file >> quota && period_file >> period)) return std::nullopt;
  }
  if (quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

}  // namespace

int Processors::threads() const {
  const double most = std::min(static_cast<double>(cores.size()), std::floor(share));
  return std::max(1, static_cast<int>(most));
}

Processors usable_processors(const std::vector<int>& allowed, const fs::path& root) {
  Processors result;
  for (const int cpu : allowed) {
    const fs::path topology = root / "sys/devices/system/cpu" / ("cpu" + std::to_string(cpu)) / "topology";
    const std::vector<int> siblings = cpus_in(topology / "thread_siblings_list");
    const bool taken = std::any_of(siblings.begin(), siblings.end(), [&](int other) {
      return other < cpu && std::find(allowed.begin(), allowed.end(), other) != allowed.end();
    });
    if (!taken) result.cores.push_back(cpu);
  }
  std::map<int, int> nodes = node_of_cpu(root);
  std::sort(result.cores.begin(), result.cores.end(),
            [&](int a, int b) { return std::pair(nodes[a], a) < std::pair(nodes[b], b); });
  for_control_groups(root, "cpu", [&](const fs::path& group, GroupVersion version) {
    result.share = std::min(result.share, share_of(group, version).value_or(result.share));
  });
  return result;
}

#ifdef __linux__
Processors usable_processors() {
  std::vector<int> allowed;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) allowed.push_back(cpu);
    }
  }
  return usable_processors(allowed, "/");
}

std::string processor_name(const fs::path& root) {
  std::ifstream info(root / "proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

bool bind_to_processor(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}
#else
Processors usable_processors() { return {}; }
bool bind_to_processor(int) { return false; }
#endif

}  // namespace fovea
