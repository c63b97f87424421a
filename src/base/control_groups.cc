#include "base/control_groups.h"

#include <fstream>

namespace fovea {

namespace fs = std::filesystem;

void for_control_groups(const fs::path& root, const std::string& controller,
                        const std::function<void(const fs::path&, GroupVersion)>& visit) {
  const fs::path mounts = root / "sys/fs/cgroup";
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:memory:/a/b", "5:cpu,cpuacct:/a", "0::/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
    const fs::path mount = v2 ? mounts : mounts / controller;
    for (fs::path at = fs::path(line.substr(second + 1)).relative_path();; at = at.parent_path()) {
      visit(mount / at, v2 ? GroupVersion::v2 : GroupVersion::v1);
      if (at.empty()) break;
    }
  }
}

}  // namespace fovea
