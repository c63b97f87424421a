// How much memory there is: of the machine, of the control group the process runs in, and of the process.
#pragma once

#include <cstdint>
#include <filesystem>

namespace fovea {

struct ResidentMemory {
  int64_t anonymous = 0, file = 0;
};
// Of this process (/proc/self/status).
ResidentMemory resident_memory();

// What this process could come to hold without pushing others out: what it holds now, and MemAvailable of
// /proc/meminfo or what its control groups (version 1 and 2) leave, whichever is less. Page cache counts as
// free. `root` stands before /proc and /sys. 0 when the system does not tell.
int64_t available_memory(const std::filesystem::path& root = "/");

}  // namespace fovea
