// Goal: `fovea serve` as a program: it opens its port at once, answers over sockets as `fovea run` does,
// survives those who mean no good, and ends as asked. Method: the program on the small model, plain sockets,
// signals.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "command_line_testing.h"
#include "serve/socket_client_testing.h"

namespace fovea {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

bool soon(const std::function<bool()>& holds, double seconds = 60) {
  for (const auto end = Clock::now() + std::chrono::duration<double>(seconds); Clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

class ServeCommand : public CommandLineTest {
 protected:
  static constexpr const char* kDemo = FOVEA_SOURCE_DIR "/models/fovea-demo";

  void TearDown() override {
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      ::waitpid(process_, nullptr, 0);
    }
    CommandLineTest::TearDown();
  }

  void start(std::vector<std::string> flags = {}) {
    const std::string port_file = (folder_ / "port").string(), errors = (folder_ / "serve.err").string();
    std::vector<std::string> words = {
        FOVEA_PROGRAM,       "serve", "-m", kDemo, "--port", "0", "-t", "2", "--port-file", port_file,
        "--kv-cache-memory", "128M"};
    words.insert(words.end(), flags.begin(), flags.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    process_ = ::fork();
    ASSERT_GE(process_, 0);
    if (process_ == 0) {
      const int file = ::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600),
                null = ::open("/dev/null", O_RDWR);
      ::dup2(null, STDIN_FILENO);
      ::dup2(null, STDOUT_FILENO);
      ::dup2(file, STDERR_FILENO);
      ::setenv("OMP_WAIT_POLICY", "passive", 1);
      ::execv(FOVEA_PROGRAM, arguments.data());
      ::_exit(127);
    }
    ASSERT_TRUE(soon([&] { return read(port_file).ends_with("\n") || ended(); })) << said();
    ASSERT_TRUE(soon([&] { return said().find("fovea: ready, serving ") != std::string::npos || ended(); }))
        << said();
    ASSERT_FALSE(ended()) << said();
    port_ = static_cast<uint16_t>(std::stoi(read(port_file)));
  }
  std::string said() const { return read(folder_ / "serve.err"); }
  bool ended() {
    if (process_ > 0 && ::waitpid(process_, &status_, WNOHANG) == process_) process_ = -1;
    return process_ <= 0;
  }
  void signal(int which) const { ::kill(process_, which); }
  bool ends_well() {
    return soon([&] { return ended(); }) && WIFEXITED(status_) && WEXITSTATUS(status_) == 0;
  }

  static json question(const std::string& text, const json& more = json::object()) {
    json body = {{"messages", {{{"role", "user"}, {"content", text}}}}, {"max_tokens", 12}, {"seed", 1}};
    body.update(more);
    return body;
  }
  Reply chat(const json& body) const {
    return ask_server(port_, "POST", "/v1/chat/completions", body.dump());
  }
  static std::string comparable(const Reply& reply) {
    json body = json::parse(reply.body);
    for (const char* name : {"id", "created"}) body.erase(name);
    if (body.contains("usage")) body["usage"].erase("prompt_tokens_details");
    return body.dump();
  }
  // A value of /metrics, whatever its labels.
  double metric(const std::string& name) const {
    const std::string text = ask_server(port_, "GET", "/metrics").body;
    const size_t at = text.find("\nfovea:" + name + "{"), value = text.find("} ", at);
    return at == text.npos ? -1 : std::stod(text.substr(value + 2));
  }
  void start_endless(SocketClient& client, int tokens = 12000) const {
    client.send(http_request(
        "POST", "/v1/chat/completions",
        question("go on", {{"ignore_eos", true}, {"max_tokens", tokens}, {"stream", true}}).dump()));
  }

  pid_t process_ = -1;
  int status_ = 0;
  uint16_t port_ = 0;
};

TEST_F(ServeCommand, AnswersAsRunDoesAndDrainsWhenAskedToEnd) {
  start({"--shutdown-timeout", "120"});
  const Reply whole = chat(question("What is it?", {{"temperature", 0}}));
  ASSERT_EQ(whole.status, 200) << whole.body;
  const Outcome run_alone = run(fmt::format("run -m {} -n 12 --greedy --json 'What is it?'", kDemo));
  EXPECT_EQ(json::parse(whole.body)["choices"][0]["message"]["content"], json::parse(run_alone.out)["text"]);
  EXPECT_EQ(json::parse(ask_server(port_, "GET", "/v1/models").body)["data"][0]["id"], "fovea-demo");
  EXPECT_EQ(ask_server(port_, "GET", "/health").status, 200);
  SocketClient stream(port_);
  start_endless(stream, 1500);
  stream.read_until("\"content\"");
  SocketClient late(port_);
  late.send("POST /v1/chat/completions HTTP/1.1\r\n");
  signal(SIGTERM);
  ASSERT_TRUE(soon([&] { return ask_server(port_, "GET", "/health").status == 503; }));
  EXPECT_EQ(chat(question("too late")).status, 503);
  const std::string& received = stream.read_until("[DONE]");
  EXPECT_NE(received.find("\"finish_reason\":\"length\""), std::string::npos)
      << received.substr(received.size() - 300);
  EXPECT_TRUE(ends_well()) << said();
}

TEST_F(ServeCommand, WhatTakesTooLongIsEndedWithAnError) {
  start({"--shutdown-timeout", "0.1"});
  SocketClient stream(port_), whole(port_);
  start_endless(stream);
  whole.send(http_request("POST", "/v1/chat/completions",
                          question("go on", {{"ignore_eos", true}, {"max_tokens", 12000}}).dump()));
  stream.read_until("\"content\"");
  ASSERT_TRUE(soon([&] { return metric("num_requests_running") + metric("num_requests_waiting") == 2; }));
  signal(SIGTERM);
  const std::string& received = stream.read_until("[DONE]");
  EXPECT_NE(received.find("\"code\":\"shutting_down\""), std::string::npos)
      << received.substr(received.size() - 300);
  EXPECT_EQ(whole.reply().status, 503);
  EXPECT_TRUE(ends_well()) << said();
}

TEST_F(ServeCommand, ASecondSignalEndsItAtOnce) {
  start();
  std::vector<std::unique_ptr<SocketClient>> streams;
  for (int i = 0; i < 8; ++i) {
    streams.push_back(std::make_unique<SocketClient>(port_));
    start_endless(*streams.back());
  }
  streams.front()->read_until("\"content\"");
  signal(SIGTERM);
  ASSERT_TRUE(soon([&] { return said().find("shutting down") != std::string::npos; }));
  signal(SIGTERM);
  ASSERT_TRUE(soon([&] { return ended(); }));
  EXPECT_TRUE(WIFSIGNALED(status_) && WTERMSIG(status_) == SIGTERM);
}

TEST_F(ServeCommand, SixteenAtOnceGetWhatTheyGetAlone) {
  start({"--max-num-seqs", "6", "--log-requests", "--trace", (folder_ / "trace.json").string()});
  std::vector<json> mix;
  for (int i = 0; i < 16; ++i) {
    json body = question("Question " + std::to_string(i % 6) + std::string(static_cast<size_t>(i) * 9, '.'));
    if (i % 3 == 1)
      body.update({{"temperature", 5}, {"top_k", 0}, {"top_p", 1}, {"seed", i}, {"ignore_eos", true}});
    if (i % 4 == 2) body.update({{"logprobs", true}, {"top_logprobs", 2}});
    mix.push_back(std::move(body));
  }
  std::vector<std::string> alone;
  for (const json& body : mix) alone.push_back(comparable(chat(body)));
  std::vector<std::thread> threads;
  std::vector<std::string> together(mix.size());
  for (size_t i = 0; i < mix.size(); ++i) {
    threads.emplace_back([&, i] {
      if (i % 4 == 0) {  // somebody else leaves
        SocketClient gone(port_);
        start_endless(gone);
        if (i % 8 == 0) gone.read_until("\"content\"");
      }
      together[i] = comparable(chat(mix[i]));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < mix.size(); ++i) EXPECT_EQ(together[i], alone[i]) << i;
  EXPECT_TRUE(soon([&] { return metric("num_requests_running") + metric("num_requests_waiting") == 0; }));
  signal(SIGINT);
  ASSERT_TRUE(ends_well()) << said();
  std::istringstream lines(said());
  int logged = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("{")) logged += json::parse(line)["event"] == "request";
  }
  EXPECT_GE(logged, 32);
  const json trace = json::parse(read(folder_ / "trace.json"));
  EXPECT_GT(trace.size(), 100u);
  EXPECT_EQ(trace[1]["name"], "step");
}

TEST_F(ServeCommand, ADisconnectEndsWhatRunsAndWhatWaits) {
  start({"--max-num-seqs", "1"});
  SocketClient running(port_), queued(port_);
  start_endless(running);
  running.read_until("\"content\"");
  start_endless(queued);
  ASSERT_TRUE(soon([&] { return metric("num_requests_waiting") == 1; }));
  SocketClient good(port_);
  good.send(http_request("POST", "/v1/chat/completions", question("hello").dump()));
  ASSERT_TRUE(soon([&] { return metric("num_requests_waiting") == 2; }));
  queued.reset();
  ASSERT_TRUE(soon([&] { return metric("num_requests_waiting") == 1; }));
  EXPECT_EQ(metric("num_requests_running"), 1);  // not its neighbour
  running.close();
  EXPECT_EQ(good.reply().status, 200);
  EXPECT_EQ(metric("num_requests_running"), 0);
}

TEST_F(ServeCommand, HostileCompanyDoesNotKeepAnybodyWaiting) {
  start({"--max-connections", "64", "--max-body-size", "1M"});
  const std::string alone = comparable(chat(question("hello")));
  std::mt19937 random(3);
  std::vector<std::unique_ptr<SocketClient>> held;
  for (int i = 0; i < 400; ++i) {
    held.push_back(std::make_unique<SocketClient>(port_));
    SocketClient& client = *held.back();
    switch (i % 8) {
      case 0:
        client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX: ");
        break;
      case 1:
        client.send(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 1000000\r\n\r\n{\"messages\": [");
        break;
      case 2:
        client.send(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 99999999999\r\n\r\n");
        break;
      case 3:
        client.send("GET /" + std::string(100000, 'x'));
        break;
      case 4:
        client.send("GET /health HTTP/1.1\r\n\r\n");
        client.half_close();
        break;
      case 5:
        client.send(http_request("POST", "/v1/chat/completions", std::string(200000, '[')));
        break;
      case 6: {
        std::string bytes(static_cast<size_t>(random() % 3000), '\0');
        for (char& c : bytes) c = static_cast<char>(random());
        client.send(bytes);
        break;
      }
      default:
        client.send(http_request("GET", "/health") + http_request("GET", "/metrics") + "GARBAGE\r\n\r\n");
    }
    if (i % 50 == 49) {
      EXPECT_EQ(comparable(chat(question("hello"))), alone);
    }
  }
  EXPECT_EQ(comparable(chat(question("hello"))), alone);
  held.clear();
  EXPECT_TRUE(soon([&] { return metric("http_connections") <= 1; }));
  signal(SIGTERM);
  EXPECT_TRUE(ends_well()) << said();
}

TEST_F(ServeCommand, RefusesFlagsThatCannotBe) {
  const auto fails = [&](const std::string& flags, const std::string& words) {
    const Outcome done = run(fmt::format("serve -m {} --port 0 {}", kDemo, flags));
    EXPECT_NE(done.exit_code, 0) << flags;
    EXPECT_NE(done.err.find(words), std::string::npos) << done.err;
  };
  fails("--ssl-cert /nowhere.pem", "go together");
  fails("--ssl-cert /nowhere.pem --ssl-key /nowhere.pem", "/nowhere.pem: no certificate");
  fails("--api-key-file /nowhere", "/nowhere");
  fails("--port 70000", "--port");
  fails("--ram 100M", "--ram 100");
  fails("--trace /nowhere/trace.json", "/nowhere/trace.json");
  write(folder_ / "empty", "# none\n");
  fails("--api-key-file " + (folder_ / "empty").string(), "no API key");
}

}  // namespace
}  // namespace fovea
