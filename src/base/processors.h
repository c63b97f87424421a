// The processors this process may run on, and how many threads keep them busy.
#pragma once

#include <filesystem>
#include <limits>
#include <string>
#include <vector>

namespace fovea {

struct Processors {
  // One logical CPU of each physical core that the process may use, node by node: a second thread on a core
  // would share the units that products need.
  std::vector<int> cores;
  // CPUs' worth of time that the control group gives (cpu.max); threads beyond it would be stopped while
  // others wait for them.
  double share = std::numeric_limits<double>::infinity();

  // The number of threads that keep these busy and no more, at least one.
  int threads() const;
};

// Of this process: sched_getaffinity, the topology in /sys, control groups. Without them: no cores.
Processors usable_processors();
// The same of `allowed` logical CPUs; `root` stands before /proc and /sys.
Processors usable_processors(const std::vector<int>& allowed, const std::filesystem::path& root);

// As the system calls it: "model name" of /proc/cpuinfo, below `root`; "unknown CPU" where it says nothing.
std::string processor_name(const std::filesystem::path& root = "/");

// Binds the calling thread to one logical CPU; false where the system refuses.
bool bind_to_processor(int cpu);

}  // namespace fovea
