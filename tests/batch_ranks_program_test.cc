// Goal: `fovea batch` and `fovea chat` answer over several ranks as one process does; a line that overflows
// gets its own error, and a rank that is killed ends all within seconds, and what was answered stays. Method:
// the program under mpirun on the demo model, and on one with a token that overflows fp16.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "overflowing_model_testing.h"
#include "ranks_program_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using std::chrono::steady_clock;

class BatchRanks : public RanksProgram {
 protected:
  // custom_id is the question.
  void write_lines(const std::vector<std::string>& questions, int64_t max_tokens) const {
    std::ofstream file(folder_ / "in.jsonl");
    for (const std::string& text : questions) {
      const json body = {{"messages", {{{"role", "user"}, {"content", text}}}},
                         {"max_tokens", max_tokens},
                         {"ignore_eos", true},
                         {"temperature", 0}};
      file << json{{"custom_id", text}, {"method", "POST"}, {"url", "/v1/chat/completions"}, {"body", body}}
           << "\n";
    }
  }
  std::string batch(const std::string& model, const std::string& flags, const std::string& out) const {
    return fmt::format("batch -m {} -i {}/in.jsonl -o {}/{} {}", model, folder_.string(), folder_.string(),
                       out, flags);
  }
  // Of each line: its text, or the words of its error.
  std::map<std::string, std::string> answers(const std::string& out) const {
    std::map<std::string, std::string> found;
    std::istringstream text(read(out.c_str()));
    for (std::string line; std::getline(text, line);) {
      const json one = json::parse(line);
      const json& body = one["response"]["body"];
      found[one["custom_id"]] = body.contains("choices")
                                    ? body["choices"][0]["message"]["content"].get<std::string>()
                                    : body["error"]["message"].get<std::string>();
    }
    return found;
  }

  const std::string demo_ = std::string(FOVEA_SOURCE_DIR) + "/models/fovea-demo";
};

TEST_F(BatchRanks, LinesAreAnsweredAsByOneProcess) {
  std::vector<std::string> questions;
  for (int i = 0; i < 6; ++i)
    questions.push_back("What is " + std::to_string(i) + std::string(7 * i, 'x') + "?");
  write_lines(questions, 10);
  ASSERT_EQ(run(0, batch(demo_, "--dtype fp32", "one")), 0) << read("err");
  const auto expected = answers("one");
  ASSERT_EQ(expected.size(), 6u);
  for (const auto& [ranks, way] : {std::pair(2, "--device-map auto"),
                                   std::pair(3, "--device-map vision=0,text.0=2,text.1=0,text.2=1,head=2"),
                                   std::pair(2, "--tensor-parallel 2")}) {
    const std::string out = "out" + std::to_string(ranks) + way[2];
    ASSERT_EQ(run(ranks, batch(demo_, std::string("--dtype fp32 --max-num-seqs 4 ") + way, out)), 0)
        << way << read("err");
    EXPECT_EQ(answers(out), expected) << way;
  }
  EXPECT_EQ(run(2, batch(demo_, "", "none")), 1);
  EXPECT_NE(read("err").find("--device-map"), std::string::npos) << read("err");
}

TEST_F(BatchRanks, ChatIsTheConversationOfOneProcess) {
  std::ofstream(folder_ / "said") << "What is it?\nAnd then?\n";
  const std::string chat = fmt::format("chat -m {} --greedy --dtype fp32 --max-new-tokens 8", demo_),
                    input = fmt::format(" < {}/said", folder_.string());
  ASSERT_EQ(run(0, chat + input), 0) << read("err");
  const std::string expected = read("out");
  for (const char* way : {" --device-map auto", " --tensor-parallel 2"}) {
    ASSERT_EQ(run(2, chat + way + input), 0) << way << read("err");
    EXPECT_EQ(read("out"), expected) << way;
  }
}

TEST_F(BatchRanks, ALineThatOverflowsGetsItsErrorAndTheOtherItsAnswer) {
  const fs::path model = folder_ / "model";
  write_changed_demo(model, [](Bf16Tensors& tensors) { overflow_mlp(tensors, "~", 256, "model.layers.0"); });
  const std::string words = "The red box is in the garden near the green house. ";
  write_lines({"What is it? " + words, "What ~ is it? " + words}, 8);
  const std::string flags = "--dtype fp16 --max-num-batched-tokens 16 ";
  ASSERT_EQ(run(0, batch(model.string(), flags, "one")), 0) << read("err");
  const auto expected = answers("one");
  ASSERT_EQ(expected.size(), 2u);
  EXPECT_NE(expected.at("What ~ is it? " + words).find("decoder layer 0"), std::string::npos)
      << expected.at("What ~ is it? " + words);
  int count = 0;
  for (const auto& [ranks, way] : {std::pair(2, "--device-map vision=0,text.0-1=0,text.2=1,head=1"),
                                   std::pair(2, "--device-map vision=1,text.0-1=1,text.2=0,head=0"),
                                   std::pair(2, "--tensor-parallel 2")}) {
    const std::string out = "out" + std::to_string(count++);
    ASSERT_EQ(run(ranks, batch(model.string(), flags + way, out)), 0) << way << read("err");
    auto found = answers(out);
    // Sums over ranks have an order of their own, in fp16 also other tokens.
    if (count == 3) found["What is it? " + words] = expected.at("What is it? " + words);
    EXPECT_EQ(found, expected) << way;
  }
}

TEST_F(BatchRanks, AKilledRankEndsAllAndWhatWasAnsweredStays) {
  for (const char* way : {"--device-map auto", "--tensor-parallel 2"}) {
    const std::string out = std::string("out") + way[2];
    write_lines({"short", "long"}, 2);
    {  // the second line is long
      std::string text = contents(folder_ / "in.jsonl");
      const size_t at = text.rfind("\"max_tokens\":2");
      ASSERT_NE(at, std::string::npos);
      text.replace(at, 14, "\"max_tokens\":20000");
      std::ofstream(folder_ / "in.jsonl") << text;
    }
    const std::string command = "exec " + command_of(2, batch(demo_, way, out));
    const pid_t launcher = fork();
    if (launcher == 0) {
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
    const auto begin = steady_clock::now();
    while (contents(folder_ / out).find("short") == std::string::npos) {
      ASSERT_LT(steady_clock::now() - begin, std::chrono::seconds(180)) << read("err");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    const std::vector<pid_t> victim = ranks("1");
    ASSERT_EQ(victim.size(), 1u);
    ASSERT_EQ(kill(victim.front(), SIGKILL), 0);
    const auto killed = steady_clock::now();
    int status = 0;
    ASSERT_EQ(waitpid(launcher, &status, 0), launcher);
    EXPECT_LT(steady_clock::now() - killed, std::chrono::seconds(10));
    EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    const std::string said = read("err") + read("out");
    EXPECT_NE(said.find("signal 9"), std::string::npos) << said;
    EXPECT_EQ(answers(out).size(), 1u);
  }
}

}  // namespace
}  // namespace fovea
