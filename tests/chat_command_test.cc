// Goal: `fovea chat` remembers what was said and computed, its commands do what they say, and Ctrl-C ends an
// answer, not the program. Method: conversations from a file, and one at a terminal of its own.
#include <poll.h>
#include <pty.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "command_line_testing.h"

namespace fovea {
namespace {

using nlohmann::json;

class ChatCommand : public CommandLineTest {
 protected:
  static constexpr const char* kDemo = FOVEA_SOURCE_DIR "/models/fovea-demo";

  Outcome chat(const std::string& lines, const std::string& flags = "") const {
    write(folder_ / "in", lines);
    return run(fmt::format("chat -m {} --greedy -n 12 {}", kDemo, flags), "",
               "< " + (folder_ / "in").string());
  }
};

TEST_F(ChatCommand, AnswersLikeRunOnTheSameConversation) {
  const std::string talk = (folder_ / "talk.json").string();
  const Outcome done =
      chat(fmt::format("/system Be brief.\n/image {}\nWhat is it?\nAnd now?\n/save {}\n", kPicture, talk));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  json messages = json::parse(read(talk));
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_EQ(messages[0]["role"], "system");
  std::string expected;
  for (const size_t turn : {size_t{2}, size_t{4}}) {
    const std::string answer = messages[turn]["content"][0]["text"];
    expected += answer + "\n";
    write(folder_ / "before.json",
          json(std::vector<json>(messages.begin(), messages.begin() + static_cast<long>(turn))).dump());
    const Outcome alone = run(
        fmt::format("run -m {} --greedy -n 12 --json --messages {}/before.json", kDemo, folder_.string()));
    EXPECT_EQ(json::parse(alone.out)["text"], answer);
  }
  EXPECT_EQ(done.out, expected);
}

TEST_F(ChatCommand, ComputesOnlyWhatIsNew) {
  const Outcome done =
      chat(fmt::format("/image {0}\n/image {0}\nWhat is it?\n/stats\nAnd now?\n/stats\n", kPicture));
  EXPECT_NE(done.err.find("1 pictures encoded"), std::string::npos) << done.err;  // the same picture twice
  const size_t second = done.err.rfind(" computed, 0 pictures encoded");
  ASSERT_NE(second, std::string::npos) << done.err;
  const size_t number = done.err.rfind(' ', second - 1);
  EXPECT_LT(std::stoi(done.err.substr(number)), 40) << done.err;
}

TEST_F(ChatCommand, MistakesAreSaidAndTheConversationGoesOn) {
  const Outcome done = chat(
      "/retry\n/stats\n/image "
      "/nowhere.png\nwhat?\n/bogus\n/save\nhello\n/retry\n/clear\nhello\n/exit\nnever\n");
  EXPECT_EQ(done.exit_code, 0);
  for (const char* words :
       {"there is no answer yet", "/nowhere.png: no such file", "there is no /bogus", "/save talk.json"}) {
    EXPECT_NE(done.err.find(words), std::string::npos) << words << "\n" << done.err;
  }
  EXPECT_EQ(std::count(done.out.begin(), done.out.end(), '\n'), 3);  // hello, its retry, hello
  EXPECT_EQ(chat("", "--max-num-seqs 2").exit_code, 2);
}

// A program at a terminal.
class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& words) {
    child_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (child_ != 0) return;
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    setenv("TERM", "dumb", 1);
    execv(argv[0], argv.data());
    _exit(127);
  }
  ~Terminal() { close(terminal_); }

  void type(std::string_view text) const {
    EXPECT_EQ(::write(terminal_, text.data(), text.size()), std::ssize(text));
  }
  // What is shown until `words` are, or for 30 s.
  std::string wait_for(const std::string& words) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (shown_.find(words) == shown_.npos && std::chrono::steady_clock::now() < end) {
      pollfd ready{terminal_, POLLIN, 0};
      if (poll(&ready, 1, 100) <= 0) continue;
      char bytes[4096];
      const ssize_t count = ::read(terminal_, bytes, sizeof bytes);
      if (count <= 0) break;
      shown_.append(bytes, static_cast<size_t>(count));
    }
    const size_t at = shown_.find(words);
    EXPECT_NE(at, shown_.npos) << words << " in\n" << shown_;
    const std::string before = shown_.substr(0, at);
    shown_.erase(0, at == shown_.npos ? 0 : at + words.size());
    return before;
  }
  int exit_code() const {
    int status = 0;
    waitpid(child_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t child_ = 0;
  int terminal_ = -1;
  std::string shown_;
};

TEST_F(ChatCommand, CtrlCEndsTheAnswerAndNotTheProgram) {
  setenv("XDG_STATE_HOME", folder_.c_str(), 1);
  {
    Terminal terminal({FOVEA_PROGRAM, "chat", "-m", kTiny, "--greedy", "--ignore-eos", "-n", "30000"});
    terminal.wait_for("> ");
    terminal.type("tell me all\n");
    terminal.wait_for("\r\n");  // the echo
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    terminal.type("\x03");
    terminal.wait_for("> ");
    terminal.type("/stats\n");
    terminal.wait_for("tokens a second");
    terminal.type("a line that is given up\x03");
    terminal.wait_for("> ");
    terminal.type("/exit\n");
    EXPECT_EQ(terminal.exit_code(), 0);
  }
  EXPECT_NE(read(folder_ / "fovea" / "chat_history").find("tell"), std::string::npos);
}

}  // namespace
}  // namespace fovea
