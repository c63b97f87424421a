// A fixture for the program under mpirun: a folder of its own, and ranks of one thread that may be more than
// there are cores, also as root.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/error.h"

namespace fovea {

// Without what differs from run to run.
inline nlohmann::json without_times(nlohmann::json value) {
  for (const char* key : {"seconds", "ranks", "resident", "peak_bytes", "timings", "speculation",
                          "peak_memory_bytes", "weights", "command", "date"}) {
    if (value.is_object()) value.erase(key);
  }
  for (nlohmann::json& part : value) {
    if (part.is_structured()) part = without_times(part);
  }
  return value;
}

inline std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    names.insert(entry.path().filename());
  }
  return names;
}

class RanksProgram : public testing::Test {
 protected:
  void SetUp() override {
#ifndef FOVEA_MPIEXEC
    GTEST_SKIP() << "built without MPI";
#endif
    for (const char* name : {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
                             "OMPI_MCA_rmaps_base_oversubscribe", "OMP_NUM_THREADS"}) {
      setenv(name, "1", 1);
    }
    setenv("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe", 1);  // Open MPI 5
    std::string pattern = (std::filesystem::temp_directory_path() / "fovea-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  // What a shell runs, with 0 ranks without mpirun; what is printed goes to the files out and err.
  std::string command_of([[maybe_unused]] int ranks, const std::string& arguments) const {
    std::string command = FOVEA_PROGRAM;
#ifdef FOVEA_MPIEXEC
    if (ranks > 0) command = fmt::format("{} -n {} {}", FOVEA_MPIEXEC, ranks, command);
#endif
    return command + fmt::format(" {0} > {1}/out 2> {1}/err", arguments, folder_.string());
  }
  // Exit code.
  int run(int ranks, const std::string& arguments) const {
    const int status = std::system(command_of(ranks, arguments).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string read(const char* name) const { return contents(folder_ / name); }

  // Processes of the program on this test's folder: all, or the one of a rank.
  std::vector<pid_t> ranks(const std::string& rank = "") const {
    std::vector<pid_t> found;
    for (const std::string& name : names_in("/proc")) {
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      const std::string command = contents("/proc/" + name + "/cmdline");
      if (!command.starts_with(FOVEA_PROGRAM) || command.find(folder_.string()) == std::string::npos)
        continue;
      const std::string environment = contents("/proc/" + name + "/environ");
      if (rank.empty() ||
          environment.find(std::string("OMPI_COMM_WORLD_RANK=") + rank + '\0') != std::string::npos ||
          environment.find(std::string("PMI_RANK=") + rank + '\0') != std::string::npos) {
        found.push_back(std::stoi(name));
      }
    }
    return found;
  }

  std::filesystem::path folder_;
};

}  // namespace fovea
