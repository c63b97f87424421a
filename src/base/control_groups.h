// The control groups (Linux cgroups, version 1 and 2) that this process runs in.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace fovea {

enum class GroupVersion { v1, v2 };

// Calls visit(folder, version) for every group whose files may limit `controller` ("cpu", "memory"): the
// process's own and all above it. `root` stands before /proc and /sys.
void for_control_groups(
    const std::filesystem::path& root, const std::string& controller,
    const std::function<void(const std::filesystem::path& folder, GroupVersion version)>& visit);

}  // namespace fovea
