// For tests that run the built program: a folder of their own, and what a command printed.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace fovea {

struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

class CommandLineTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fovea-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void write(const std::filesystem::path& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }

  // `before fovea arguments >out 2>err </dev/null redirections`, by the shell; later redirections win.
  Outcome run(const std::string& arguments, const std::string& before = "",
              const std::string& redirections = "") const {
    const std::string out = (folder_ / "out").string(), err = (folder_ / "err").string();
    const int status = std::system(fmt::format("{} {} {} >{} 2>{} </dev/null {}", before, FOVEA_PROGRAM,
                                               arguments, out, err, redirections)
                                       .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read(out), read(err)};
  }

  static constexpr const char* kTiny = FOVEA_SOURCE_DIR "/tests/golden/one_image";
  static constexpr const char* kPicture = FOVEA_SOURCE_DIR "/tests/golden/one_image/inputs/image0.png";
  // A question to the tiny model, with what else is given.
  static std::string ask(const std::string& more) {
    return fmt::format("run -m {} --greedy --ignore-eos --max-new-tokens 4 {}", kTiny, more);
  }

  std::filesystem::path folder_;
};

}  // namespace fovea
