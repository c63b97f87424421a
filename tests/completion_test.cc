// What a shell offers behind the words of a command line, asked of bash itself.
#include <sstream>

#include "command_line_testing.h"

namespace fovea {
namespace {

class CompletionTest : public CommandLineTest {
 protected:
  void SetUp() override {
    CommandLineTest::SetUp();
    const Outcome made = run("completion bash");
    ASSERT_EQ(made.exit_code, 0) << made.err;
    write(folder_ / "script", made.out);
    write(folder_ / "picture.png", "");
    std::filesystem::create_directory(folder_ / "model");
  }

  // The last word is the one that is completed; it may be empty.
  std::string offered(const std::vector<std::string>& words) const {
    std::string script = "cd " + folder_.string() + "\n. ./script\nCOMP_WORDS=(fovea";
    for (const std::string& word : words) script += " '" + word + "'";
    script += fmt::format(")\nCOMP_CWORD={}\n_fovea\nprintf '%s ' \"${{COMPREPLY[@]}}\"\n", words.size());
    write(folder_ / "ask", script);
    const int status = std::system(
        fmt::format("bash --norc {0}/ask >{0}/offered 2>{0}/complaints", folder_.string()).c_str());
    EXPECT_EQ(status, 0);
    EXPECT_EQ(read(folder_ / "complaints"), "");
    return " " + read(folder_ / "offered");
  }
};

TEST_F(CompletionTest, CommandsOptionsAndValues) {
  EXPECT_EQ(offered({"ru"}), " run ");
  EXPECT_NE(offered({""}).find(" serve "), std::string::npos);
  EXPECT_EQ(offered({"run", "--dt"}), " --dtype ");
  EXPECT_EQ(offered({"run", "--dtype", ""}), " fp32 bf16 fp16 ");
  EXPECT_EQ(offered({"run", "-m", "x", "--attn", "fl"}), " flash_attention_2 ");
  EXPECT_EQ(offered({"suite", "ma"}), " make ");
  EXPECT_EQ(offered({"batch", "--dt"}), " --dtype ");
  EXPECT_EQ(offered({"presets", "--dt"}), "  ");  // of other commands
}

TEST_F(CompletionTest, FilesWhereFilesAreMeant) {
  EXPECT_EQ(offered({"run", "--image", "pic"}), " picture.png ");
  EXPECT_EQ(offered({"run", "mod"}), " model ");
}

TEST_F(CompletionTest, EveryOptionOfTheHelpIsOffered) {
  for (const char* command : {"run", "serve", "audit", "quantize"}) {
    const std::string help = run(fmt::format("{} --help", command)).out, all = offered({command, "--"});
    int options = 0;
    std::istringstream lines(help);
    for (std::string line; std::getline(lines, line);) {
      // "  -m, --model DIR   what it is": names stand at the beginning.
      const size_t start = line.find_first_not_of(' ');
      if (start == std::string::npos || start > 6 || line[start] != '-') continue;
      const size_t at = line.find("--", start);
      if (at == std::string::npos || at > start + 4) continue;
      const std::string name = line.substr(at, line.find_first_of(" ,", at) - at);
      EXPECT_NE(all.find(" " + name + " "), std::string::npos) << command << " " << name;
      ++options;
    }
    EXPECT_GT(options, 5) << command;
  }
}

TEST_F(CompletionTest, OtherShells) {
  EXPECT_EQ(run("completion zsh").out.find("#compdef fovea\n"), 0u);
  const std::string fish = run("completion fish").out;
  EXPECT_NE(fish.find("complete -c fovea -n '__fish_seen_subcommand_from run' -l dtype"), std::string::npos);
  const Outcome other = run("completion tcsh");
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_NE(other.err.find("bash"), std::string::npos);
}

}  // namespace
}  // namespace fovea
