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

#include "base/error.h"

namespace fovea {

// Without what differs from run to run.
inline nlohmann::json without_times(nlohmann::json value) {
  for (const char* key : {"seconds", "ranks", "resident", "peak_bytes", "timings", "speculation",
                          "peak_memory_bytes", "weights"}) {
    if (value.is_object()) value.erase(key);
  }
  for (nlohmann::json& part : value) {
    if (part.is_structured()) part = without_times(part);
  }
  return value;
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
  std::string read(const char* name) const {
    std::ifstream file(folder_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path folder_;
};

}  // namespace fovea
