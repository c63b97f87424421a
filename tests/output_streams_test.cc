// Goal: a command whose output is lost says so and exits with 1; one whose notes are lost does not mind; no
// file takes the place of a closed stream. Method: every command with each stream full, closed or a pipe that
// nobody reads.
#include <csignal>

#include "command_line_testing.h"

namespace fovea {
namespace {

class OutputStreams : public CommandLineTest {
 protected:
  // Every command that prints, each so that it succeeds.
  std::vector<std::string> commands() const {
    const std::string folder = folder_.string();
    return {ask("hello"),
            ask("--json hello"),
            fmt::format("plan -m {} --context 100", kTiny),
            fmt::format("plan -m {} --context 100 --json", kTiny),
            fmt::format("inspect -m {}", kTiny),
            fmt::format("inspect -m {} --json", kTiny),
            "presets",
            "presets eager-bf16 --json",
            fmt::format("suite make --kind easy --count 2 --out {}/suite", folder),
            fmt::format("quantize -m {} --out {}/quantized --weights fp16 --force", kTiny, folder),
            fmt::format("logits -m {} hello --out {}/x.safetensors", kTiny, folder),
            "bench --list",
            "--version",
            "--help",
            "run --help"};
  }
};

TEST_F(OutputStreams, AFullOrClosedStandardOutputIsAFailure) {
  const std::pair<const char*, const char*> streams[] = {{">/dev/full", "No space left on device"},
                                                         {">&-", "standard output is closed"}};
  for (const auto& [redirection, words] : streams) {
    for (const std::string& command : commands()) {
      std::filesystem::remove_all(folder_ / "suite");
      const Outcome outcome = run(command, "", redirection);
      EXPECT_EQ(outcome.exit_code, 1) << command << redirection << "\n" << outcome.err;
      EXPECT_NE(outcome.err.find(words), std::string::npos) << command << redirection << "\n" << outcome.err;
      EXPECT_NE(outcome.err.find("remedy: "), std::string::npos) << outcome.err;
    }
  }
}

TEST_F(OutputStreams, AFullOrClosedStandardErrorChangesNothing) {
  const std::pair<std::string, int> cases[] = {{ask("hello"), 0},
                                               {ask(fmt::format("--image {} hello", kPicture)), 0},
                                               {ask("--json hello --guard warn --preset eager-bf16"), 0},
                                               {ask("hello --image /nonexistent.png"), 1},
                                               {"run -m /nonexistent hello", 1},
                                               {"presets fastest", 1},
                                               {"run --frobnicate", 2},
                                               {"", 2}};
  for (const auto& [command, exit_code] : cases) {
    const Outcome usual = run(command);
    EXPECT_EQ(usual.exit_code, exit_code) << command << "\n" << usual.err;
    EXPECT_FALSE(usual.err.empty() && exit_code != 0) << command;
    for (const char* redirection : {"2>/dev/full", "2>&-"}) {
      const Outcome outcome = run(command, "", redirection);
      EXPECT_EQ(outcome.exit_code, exit_code) << command << redirection;
      const bool timed = command.find("--json") != std::string::npos;
      if (!timed) {
        EXPECT_EQ(outcome.out, usual.out) << command << redirection;
      } else {
        EXPECT_FALSE(outcome.out.empty());
      }
    }
  }
}

TEST_F(OutputStreams, AConversationWithoutAnOutputEnds) {
  const std::string chat = fmt::format("chat -m {} -n 2", kTiny);
  write(folder_ / "questions", "hello\nhello\n");
  const std::string questions = fmt::format("<{}/questions ", folder_.string());
  const Outcome usual = run(chat, "", questions);
  EXPECT_EQ(usual.exit_code, 0) << usual.err;
  for (const char* redirection : {">/dev/full", ">&-"}) {
    const Outcome outcome = run(chat, "", questions + redirection);
    EXPECT_EQ(outcome.exit_code, 1) << redirection;
    const auto first = outcome.err.find("standard output");
    EXPECT_NE(first, std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("standard output", first + 1), std::string::npos) << outcome.err;
  }
  for (const char* redirection : {"2>/dev/full", "2>&-"})
    EXPECT_EQ(run(chat, "", questions + redirection).out, usual.out) << redirection;
}

TEST_F(OutputStreams, ABatchWhoseFileTakesNothingMoreFails) {
  const std::string lines = (folder_ / "lines.jsonl").string(), out = (folder_ / "answers.jsonl").string();
  std::ofstream(lines)
      << R"({"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":)"
      << R"({"messages":[{"role":"user","content":"hello"}],"max_tokens":2,"temperature":0}})"
      << "\n";
  const std::string batch = fmt::format("batch -m {} -i {} -o ", kTiny, lines);
  const Outcome full = run(batch + "/dev/full");
  EXPECT_EQ(full.exit_code, 1) << full.err;
  EXPECT_NE(full.err.find("cannot write /dev/full: No space left on device"), std::string::npos) << full.err;
  for (const char* redirection : {"2>/dev/full", "2>&-", ">&-"}) {
    std::filesystem::remove(out);
    EXPECT_EQ(run(batch + out, "", redirection).exit_code, 0) << redirection;
    EXPECT_NE(read(out).find("\"custom_id\":\"a\""), std::string::npos) << redirection;
  }
}

// The reader of the notes is gone before the first is written.
TEST_F(OutputStreams, NotesIntoAPipeThatNobodyReadsAreLost) {
  const std::string out = (folder_ / "out").string(), code = (folder_ / "code").string();
  const std::string command =
      fmt::format("{{ {{ sleep 0.2; {} {} >{}; echo $? >{}; }} 2>&1 </dev/null | true; }}", FOVEA_PROGRAM,
                  ask("hello"), out, code);
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(read(code), "0\n");
  EXPECT_EQ(read(out), run(ask("hello")).out);
}

// As `fovea presets | head -1` does: the program ends by the signal, without a word.
TEST_F(OutputStreams, AnOutputThatIsCutOffEndsQuietly) {
  std::signal(SIGPIPE, SIG_DFL);  // whatever started the test may ignore it, which is inherited
  const std::string err = (folder_ / "err").string(), code = (folder_ / "code").string();
  const std::string command =
      fmt::format("{{ {{ sleep 0.2; {} inspect --json -m {} 2>{}; echo $? >{}; }} | true; }}", FOVEA_PROGRAM,
                  kTiny, err, code);
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(read(code), "141\n");
  EXPECT_EQ(read(err), "");
}

// Without a standard error of its own, the next file that is opened would get its number and the notes.
TEST_F(OutputStreams, NoFileBecomesAClosedStream) {
  const std::string file = (folder_ / "x.safetensors").string();
  const std::string command =
      fmt::format("logits -m {} hello --guard warn --preset eager-bf16 --out ", kTiny);
  ASSERT_EQ(run(command + file).exit_code, 0);
  const std::string usual = read(file);
  EXPECT_GT(usual.size(), 1000u);
  ASSERT_EQ(run(command + file, "", "2>&- <&-").exit_code, 0);
  EXPECT_EQ(read(file), usual);
  EXPECT_EQ(run(command + file, "", ">&- 2>&- <&-").exit_code, 1);
  EXPECT_EQ(read(file), usual);
}

TEST_F(OutputStreams, WhatCameFromAFileCannotSteerTheTerminal) {
  write(folder_ / "chat.json", "[{\"role\": \"\\u001b[2J\\u0000\\rking\", \"content\": \"hi\"}]");
  const Outcome outcome = run(fmt::format("run -m {} --messages {}/chat.json", kTiny, folder_.string()));
  EXPECT_EQ(outcome.exit_code, 1);
  for (const char& c : outcome.err) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << &c;
  EXPECT_NE(outcome.err.find("king"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("remedy: "), std::string::npos) << outcome.err;
  const Outcome usage = run("\"$(printf 'ru\\033[31mn')\"");
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_NE(usage.err.find("ru\\x1b[31mn"), std::string::npos) << usage.err;
}

}  // namespace
}  // namespace fovea
