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
#include <sstream>
#include <utility>
#include <vector>

#include "base/error.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

const fs::path kRepository = FOVEA_SOURCE_DIR;

struct Block {
  std::string document;
  size_t line = 0;
  std::vector<std::string> commands;  // as the shell reads them
  std::string output;                 // the `text` block behind it, empty: none
};

void PrintTo(const Block& block, std::ostream* out) { *out << block.document << ":" << block.line; }

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A line that ends in a backslash is joined with the next one.
std::vector<std::string> commands_in(const std::string& text) {
  std::vector<std::string> commands;
  std::istringstream lines(text);
  std::string line, open;
  while (std::getline(lines, line)) {
    if (open.empty() && (line.empty() || line.front() == '#')) continue;
    open += line;
    if (open.ends_with('\\')) {
      open.back() = ' ';
    } else {
      commands.push_back(std::exchange(open, ""));
    }
  }
  return commands;
}

std::vector<Block> blocks_of(const fs::path& path) {
  std::vector<Block> blocks;
  std::istringstream lines(read(path));
  std::string line, kind, text;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    if (!line.starts_with("```")) {
      text += line + "\n";
      continue;
    }
    const bool ends = !kind.empty();
    if (ends && kind == "sh")
      blocks.push_back({fs::relative(path, kRepository), number, commands_in(text), ""});
    if (ends && kind == "text" && !blocks.empty()) blocks.back().output = text;
    kind = ends ? "" : line.size() > 3 ? line.substr(3) : "none";
    text.clear();
  }
  return blocks;
}

std::vector<Block> all_blocks() {
  std::vector<fs::path> documents = {kRepository / "README.md"};
  for (const auto& entry : fs::directory_iterator(kRepository / "docs" / "guide")) {
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  }
  std::sort(documents.begin(), documents.end());
  std::vector<Block> all;
  for (const fs::path& document : documents) {
    const std::vector<Block> blocks = blocks_of(document);
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  return all;
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
  };
  for (const auto& [prefix, reason] : kNotRun) {
    if (command.starts_with(prefix)) return reason;
  }
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
    for (const char* part : {"models", "demo", "tests"}) {
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
  std::string script = "set -e\n", skipped;
  for (const std::string& command : GetParam().commands) {
    const std::string reason = obstacle(command);
    (reason.empty() ? script : skipped) += command + (reason.empty() ? "" : ": " + reason) + "\n";
  }
  if (script == "set -e\n") GTEST_SKIP() << skipped;
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
    All, Documents, testing::ValuesIn(all_blocks()), [](const testing::TestParamInfo<Block>& block) {
      std::string name = fs::path(block.param.document).stem().string();
      std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
      return fmt::format("{}_{}", name, block.param.line);
    });

// The documents have commands, or the tests above would be none.
TEST(DocumentCommands, AreFound) {
  size_t run = 0;
  for (const Block& block : all_blocks()) {
    for (const std::string& command : block.commands) run += obstacle(command).empty() ? 1 : 0;
  }
  EXPECT_GE(run, 15u);
}

}  // namespace
}  // namespace fovea
