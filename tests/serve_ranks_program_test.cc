// Goal: `fovea serve` over several ranks answers as one process does, many at once; what overflows gets its
// own error; rank 0 drains and lets the others go, and a rank that is killed ends all within seconds. Method:
// the program under mpirun, plain sockets, signals.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "overflowing_model_testing.h"
#include "ranks_program_testing.h"
#include "serve/socket_client_testing.h"

namespace fovea {
namespace {

using nlohmann::json;
using std::chrono::steady_clock;

class ServeRanks : public RanksProgram {
 protected:
  void TearDown() override {
    for (const pid_t pid : RanksProgram::ranks()) kill(pid, SIGKILL);
    if (launcher_ > 0) waitpid(launcher_, nullptr, 0);
    RanksProgram::TearDown();
  }

  void start(int ranks, const std::string& flags) {
    const std::filesystem::path port = folder_ / "port";
    for (const auto& old : {port, folder_ / "err"}) std::filesystem::remove(old);
    const std::string command =
        "exec " + command_of(ranks, fmt::format("serve --port 0 --port-file {} {}", port.string(), flags));
    launcher_ = fork();
    if (launcher_ == 0) {
      execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      _exit(127);
    }
    ASSERT_TRUE(soon([&] { return read("err").find("fovea: ready, serving ") != std::string::npos; }))
        << read("err");
    port_ = static_cast<uint16_t>(std::stoi(contents(port)));
  }
  static bool soon(const std::function<bool()>& holds) {
    for (const auto end = steady_clock::now() + std::chrono::seconds(180); steady_clock::now() < end;) {
      if (holds()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return false;
  }
  Reply ask(const std::string& text) const {
    const json body = {{"messages", {{{"role", "user"}, {"content", text}}}},
                       {"max_tokens", 12},
                       {"ignore_eos", true},
                       {"temperature", 0}};
    return ask_server(port_, "POST", "/v1/chat/completions", body.dump());
  }
  // All at once: what is answered, or the words of the error.
  std::vector<std::string> answers(const std::vector<std::string>& questions) const {
    std::vector<std::string> found(questions.size());
    {
      std::vector<std::jthread> clients;
      for (size_t i = 0; i < questions.size(); ++i) {
        clients.emplace_back([&, i] {
          const Reply reply = ask(questions[i]);
          const json body = json::parse(reply.body, nullptr, false);
          // An answer may be empty: the status stands before it.
          if (reply.status == 200) {
            found[i] = "200 " + body["choices"][0]["message"]["content"].get<std::string>();
          }
          if (reply.status >= 400) found[i] = body["error"]["message"];
        });
      }
    }
    return found;
  }
  // Rank 0 is asked to end; the exit code of all.
  int end() {
    const std::vector<pid_t> first = RanksProgram::ranks();
    for (const pid_t pid : first.size() == 1 ? first : RanksProgram::ranks("0")) kill(pid, SIGTERM);
    int status = 0;
    EXPECT_GT(waitpid(std::exchange(launcher_, -1), &status, 0), 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  const std::string demo_ = std::string(FOVEA_SOURCE_DIR) + "/models/fovea-demo";
  pid_t launcher_ = -1;
  uint16_t port_ = 0;
};

TEST_F(ServeRanks, AnswersAsOneProcessDoesAndEndsWhenAsked) {
  std::vector<std::string> questions, expected;
  for (int i = 0; i < 5; ++i) questions.push_back(fmt::format("What is {}{}?", i, std::string(9 * i, 'x')));
  const std::string flags = fmt::format("-m {} --dtype fp32 --kv-cache-memory 64M ", demo_);
  for (const auto& [ranks, way] :
       {std::pair(0, ""), std::pair(2, "--device-map auto"), std::pair(2, "--tensor-parallel 2")}) {
    SCOPED_TRACE(way);
    start(ranks, flags + way);
    const std::vector<std::string> found = answers(questions);
    if (ranks == 0) expected = found;
    for (const std::string& text : found) EXPECT_GT(text.size(), 4u) << read("err");
    EXPECT_EQ(found, expected);
    EXPECT_EQ(end(), 0) << read("err");
  }
}

TEST_F(ServeRanks, ARequestThatOverflowsGetsItsErrorAndTheOtherItsAnswer) {
  const std::filesystem::path model = folder_ / "model";
  write_changed_demo(model, [](Bf16Tensors& tensors) { overflow_mlp(tensors, "~", 256, "model.layers.2"); });
  const std::string words = "The red box is in the garden near the green house. ",
                    flags = fmt::format("-m {} --dtype fp16 --kv-cache-memory 64M ", model.string());
  std::vector<std::string> expected;
  for (const auto& [ranks, way] :
       {std::pair(0, ""), std::pair(2, "--device-map vision=0,text.0-1=0,text.2=1,head=1")}) {
    SCOPED_TRACE(way);
    start(ranks, flags + way);
    const std::vector<std::string> found = answers({"What is 0?", "What ~ is it? " + words});
    if (ranks == 0) expected = found;
    EXPECT_TRUE(found[0].starts_with("200 ")) << found[0];
    EXPECT_NE(found[1].find("decoder layer 2"), std::string::npos) << found[1];
    EXPECT_EQ(found, expected);
    EXPECT_EQ(answers({"What is 0?"}).front(), found[0]);
    EXPECT_EQ(end(), 0) << read("err");
  }
}

TEST_F(ServeRanks, AKilledRankEndsAll) {
  start(2, fmt::format("-m {} --device-map auto --kv-cache-memory 64M", demo_));
  EXPECT_EQ(ask("What is it?").status, 200);
  const std::vector<pid_t> victim = RanksProgram::ranks("1");
  ASSERT_EQ(victim.size(), 1u);
  ASSERT_EQ(kill(victim.front(), SIGKILL), 0);
  const auto killed = steady_clock::now();
  int status = 0;
  ASSERT_GT(waitpid(std::exchange(launcher_, -1), &status, 0), 0);
  EXPECT_LT(steady_clock::now() - killed, std::chrono::seconds(10));
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_NE(read("err").find("signal 9"), std::string::npos) << read("err");
}

}  // namespace
}  // namespace fovea
