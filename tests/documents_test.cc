// Goal: what README.md and docs/guide say to type works, and what they say is printed is printed. Method: the
// commands of every block marked `sh` run one after the other, in a folder where the small trained model
// stands in for the published ones in a Hugging Face cache; a block marked `text` behind one is compared with
// what it printed. What is not run is listed here with the reason.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "base/error.h"
#include "documents_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using namespace documents;

std::vector<Block> blocks_to_run() {
  std::vector<Block> found = all_blocks();
  std::erase_if(found, [](const Block& block) { return block.kind != "sh"; });
  return found;
}

bool there_is(const char* program) {
  return std::system(fmt::format("command -v {} >/dev/null 2>&1", program).c_str()) == 0;
}

// Why a command is not run here; empty: it is.
std::string obstacle(const std::string& command) {
  constexpr std::pair<const char*, const char*> kNotRun[] = {
      {"hf download ", "needs the network"},
      {"git clone ", "needs the network"},
      {"apt install ", "changes the machine"},
      {"make ", "builds what is being tested; CI runs it"},
      {"pdftoppm ", "another program, which need not be there"},
      {"python", "needs PyTorch"},
      {"pip ", "needs the network"},
      {"sudo ", "changes the machine"},
  };
  for (const auto& [prefix, reason] : kNotRun) {
    if (command.starts_with(prefix)) return reason;
  }
  if (command.find("guide/cookbook/") != std::string::npos && !there_is("python3")) return "no python3 here";
#ifndef FOVEA_MPIEXEC
  if (command.find("mpirun ") != std::string::npos) return "built without MPI";
#endif
  return "";
}

class Documents : public testing::TestWithParam<Block> {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "fovea-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    fill_cache();
    fill_folder();
  }
  void TearDown() override { fs::remove_all(folder_); }

  // As `hf download` leaves it, the weights being those of the small model.
  void fill_cache() const {
    for (const char* size : {"3B", "7B"}) {
      const fs::path model =
          folder_ / "hf" / "hub" / fmt::format("models--Qwen--Qwen2.5-VL-{}-Instruct", size);
      const char* commit = "0123456789abcdef0123456789abcdef01234567";
      fs::create_directories(model / "refs");
      fs::create_directories(model / "snapshots" / commit);
      std::ofstream(model / "refs" / "main") << commit;
      for (const auto& file : fs::directory_iterator(kRepository / "models" / "fovea-demo")) {
        fs::create_symlink(file.path(), model / "snapshots" / commit / file.path().filename());
      }
    }
  }

  // The files that the documents speak of.
  void fill_folder() const {
    const fs::path media = kRepository / "tests" / "data" / "media";
    for (const char* part : {"models", "demo", "tests", "docs"}) {
      fs::create_directory_symlink(kRepository / part, folder_ / part);
    }
    for (const char* name : {"page.png", "a.png", "b.png"}) {
      fs::copy_file(kRepository / "demo" / "card3.png", folder_ / name);
    }
    fs::copy_file(media / "jpeg_444.jpg", folder_ / "cat.jpg");
    std::ofstream(folder_ / "chat.json") << R"([{"role": "user", "content": [)"
                                         << R"({"type": "image", "image": "a.png"},)"
                                         << R"({"type": "text", "text": "What shape is in picture 1?"}]}])";
    std::ofstream(folder_ / "my.jsonl")
        << R"({"id": "q1", "messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"},)"
        << R"({"type": "text", "text": "What shape is in picture 1?"}]}], "answer": "diamond"})"
        << "\n";
  }

  fs::path folder_;
};

TEST_P(Documents, CommandsWork) {
  // What a block leaves running ends with it, whatever happens.
  const std::string begin =
      "set -e\ntrap 'code=$?; kill $(jobs -p) 2>/dev/null || true; wait; exit $code' EXIT\n";
  std::string script = begin, skipped;
  const std::vector<std::string>& commands = GetParam().commands;
  const bool asks = std::any_of(commands.begin(), commands.end(), [](const std::string& command) {
    return command.find("curl ") != std::string::npos;
  });
  if (asks && !there_is("curl")) GTEST_SKIP() << "no curl here";
  for (const std::string& command : commands) {
    const std::string reason = obstacle(command);
    (reason.empty() ? script : skipped) += command + (reason.empty() ? "" : ": " + reason) + "\n";
  }
  if (script == begin) GTEST_SKIP() << skipped;
  std::ofstream(folder_ / "script") << script;
  // The machine's measured limits are kept in a folder of the test's own.
  const std::string shell = fmt::format(
      "cd '{0}' && PATH='{1}':\"$PATH\" HF_HOME='{0}/hf' XDG_CACHE_HOME='{0}/cache' {2} bash script >out "
      "2>err "
      "</dev/null",
      folder_.string(), fs::path(FOVEA_PROGRAM).parent_path().string(), FOVEA_RANKS_ENVIRONMENT);
  const int status = std::system(shell.c_str());
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0)
      << script << read(folder_ / "out") << read(folder_ / "err");
  if (!GetParam().output.empty()) {
    EXPECT_EQ(read(folder_ / "out"), GetParam().output) << script;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Documents, testing::ValuesIn(blocks_to_run()), [](const testing::TestParamInfo<Block>& block) {
      std::string name = block.param.document;
      std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
      return fmt::format("{}_{}", name, block.param.line);
    });

// The documents have commands, or the tests above would be none.
TEST(DocumentCommands, AreFound) {
  size_t run = 0;
  for (const Block& block : blocks_to_run()) {
    for (const std::string& command : block.commands) run += obstacle(command).empty() ? 1 : 0;
  }
  EXPECT_GE(run, 90u);
}

}  // namespace
}  // namespace fovea
