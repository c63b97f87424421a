// Goal: good requests are answered whatever others send: slowly, in halves, too much, garbage, or without
// ever reading. Method: the server with a handler of its own and short time limits, and clients of plain
// sockets.
#include "serve/http_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "serve/socket_client_testing.h"

namespace fovea {
namespace {

using Clock = std::chrono::steady_clock;

class Handler final : public HttpHandler {
 public:
  std::optional<HttpResponse> answer_early(const HttpHead& head) override {
    if (head.path() != "/early") return std::nullopt;
    return text(403, "early");
  }
  void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) override {
    ++handled;
    const std::string path = request.head.path();
    if (path == "/keep") {
      writer->on_gone([this] { ++gone; });
      const std::lock_guard lock(mutex);
      kept.push_back(writer);
      bodies.push_back(request.body);
      return;
    }
    if (path == "/lost") return;
    writer->respond(text(200, request.head.method + " " + *request.body));
  }
  HttpResponse refusal(int status, const std::string& words) override { return text(status, words); }

  std::shared_ptr<ResponseWriter> take_kept() {
    for (const auto end = Clock::now() + std::chrono::seconds(60); Clock::now() < end;) {
      {
        const std::lock_guard lock(mutex);
        if (!kept.empty()) {
          auto first = kept.front();
          kept.erase(kept.begin());
          return first;
        }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return nullptr;
  }

  std::atomic<int> handled{0}, gone{0};
  std::mutex mutex;
  std::vector<std::shared_ptr<ResponseWriter>> kept;
  std::vector<std::shared_ptr<const std::string>> bodies;

 private:
  static HttpResponse text(int status, const std::string& words) {
    HttpResponse response;
    response.status = status;
    response.content_type = "text/plain";
    response.body = words;
    return response;
  }
};

bool soon(const std::function<bool()>& holds) {
  for (const auto end = Clock::now() + std::chrono::seconds(60); Clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

class HttpServerTest : public testing::Test {
 protected:
  void start(HttpLimits limits = {}) {
    HttpOptions options;
    options.port = 0;
    options.limits = limits;
    server = std::make_unique<HttpServer>(options, handler);
    server->start(2);
    port = server->port();
  }
  void expect_good_answer() const {
    const Reply reply = ask_server(port, "POST", "/echo", "hello");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, "POST hello");
  }

  Handler handler;
  std::unique_ptr<HttpServer> server;
  uint16_t port = 0;
};

TEST_F(HttpServerTest, AnswersOneAfterTheOtherOnOneConnection) {
  start();
  SocketClient client(port);
  for (int i = 0; i < 3; ++i) {
    client.send(http_request("POST", "/echo", std::to_string(i)));
    EXPECT_EQ(client.reply().body, "POST " + std::to_string(i));
  }
  client.send(http_request("HEAD", "/x") + http_request("GET", "/y"));
  const std::string both = client.read_until("GET ");
  EXPECT_NE(both.find("Content-Length: 5\r\n"), both.npos);  // of HEAD's "HEAD "
  client.send("GET /z HTTP/1.0\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(client.ends());
}

TEST_F(HttpServerTest, TakesRequestsThatComeTogetherAndInPieces) {
  start();
  SocketClient client(port);
  std::string many;
  for (int i = 0; i < 50; ++i)
    many += http_request("POST", "/echo", std::string(static_cast<size_t>(i) * 997, 'x'));
  std::thread sender([&] {
    for (size_t at = 0; at < many.size(); at += 7001) client.send(many.substr(at, 7001));
  });
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.reply().body.size(), 5 + static_cast<size_t>(i) * 997);
  sender.join();
  SocketClient chunked(port);
  chunked.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  chunked.send("2;x=y\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.reply().body, "POST abcde");
}

TEST_F(HttpServerTest, RefusesBeforeABodyIsSent) {
  start();
  SocketClient client(port);
  client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(client.reply().status, 403);
  SocketClient pushy(port);  // what it sends all the same does not cost it the answer
  pushy.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" +
             std::string(1000000, 'x'));
  EXPECT_EQ(pushy.reply().body, "early");
  SocketClient waits(port);
  waits.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_NE(waits.read_until("100 Continue\r\n\r\n").find("100 Continue"), std::string::npos);
  waits.send("ok");
  EXPECT_NE(waits.read_until("POST ok").find("POST ok"), std::string::npos);
}

TEST_F(HttpServerTest, RefusesWhatIsTooLargeOrNoRequest) {
  HttpLimits limits;
  limits.body_bytes = 1000;
  limits.header_bytes = 2000;
  start(limits);
  EXPECT_EQ(ask_server(port, "POST", "/echo", std::string(1000, 'x')).status, 200);
  EXPECT_EQ(ask_server(port, "POST", "/echo", std::string(1001, 'x')).status, 413);
  EXPECT_EQ(ask_server(port, "GET", "/echo", "", "X-Long: " + std::string(3000, 'x') + "\r\n").status, 431);
  const auto status_of = [&](const std::string& bytes) {
    SocketClient client(port);
    client.send(bytes);
    return client.reply().status;
  };
  EXPECT_EQ(status_of("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" +
                      std::string(1001, 'x')),
            413);
  for (const std::string& bytes :
       {std::string("GARBAGE\r\n\r\n"), std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),
        std::string("GET / HTTP/2.0\r\n\r\n"), std::string("GET / HTTP/1.1\r\nNo colon\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")}) {
    const int status = status_of(bytes);
    EXPECT_TRUE(status == 400 || status == 413) << status << " " << bytes.substr(0, 60);
  }
  expect_good_answer();
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

TEST_F(HttpServerTest, EndsThoseThatNeverComeToAnEnd) {
  HttpLimits limits;
  limits.header_s = 0.3;
  limits.body_s = 0.3;
  limits.idle_s = 0.3;
  start(limits);
  SocketClient silent(port), head(port), body(port), idle(port);
  head.send("GET /echo HTTP/1.1\r\nHost: ");
  body.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow");
  idle.send(http_request("GET", "/echo"));
  EXPECT_EQ(idle.reply().status, 200);
  EXPECT_TRUE(silent.ends() && head.ends() && body.ends() && idle.ends());
  // Not even by a byte now and then.
  SocketClient drip(port);
  drip.send("GET /echo HTTP/1.1\r\n");
  const auto begin = Clock::now();
  while (drip.send("a") && Clock::now() < begin + std::chrono::seconds(30)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(30));
  expect_good_answer();
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

TEST_F(HttpServerTest, WhoWaitsLongestMakesRoomForANewOne) {
  HttpLimits limits;
  limits.connections = 20;
  start(limits);
  std::vector<std::unique_ptr<SocketClient>> slow;
  for (int i = 0; i < 200; ++i) {
    slow.push_back(std::make_unique<SocketClient>(port));
    slow.back()->send("GET /echo HTTP/1.1\r\nHost: a\r\n");
    if (i % 20 == 0) expect_good_answer();
  }
  expect_good_answer();
  EXPECT_TRUE(slow.front()->ends());
  EXPECT_LE(server->connections(), 21);
}

TEST_F(HttpServerTest, ABodyCountsAsItComes) {
  HttpLimits limits;
  limits.body_bytes = 100000;
  limits.all_bodies_bytes = 150000;
  start(limits);
  std::vector<std::unique_ptr<SocketClient>> announce;
  for (int i = 0; i < 10; ++i) {  // promises cost nothing
    announce.push_back(std::make_unique<SocketClient>(port));
    announce.back()->send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
  }
  EXPECT_EQ(ask_server(port, "POST", "/echo", std::string(90000, 'x')).status, 200);
  SocketClient kept(port);
  kept.send(http_request("POST", "/keep", std::string(90000, 'x')));
  const auto writer = handler.take_kept();
  ASSERT_NE(writer, nullptr);
  EXPECT_EQ(ask_server(port, "POST", "/echo", std::string(90000, 'x')).status, 503);
  handler.bodies.clear();  // whoever has read it lets it go
  EXPECT_EQ(ask_server(port, "POST", "/echo", std::string(90000, 'x')).status, 200);
  writer->respond({});
  EXPECT_EQ(kept.reply().status, 200);
}

TEST_F(HttpServerTest, AStreamComesPieceByPieceAndIsNeverSilentForLong) {
  HttpLimits limits;
  limits.silence_s = 0.1;
  start(limits);
  SocketClient client(port);
  client.send(http_request("GET", "/keep"));
  const auto writer = handler.take_kept();
  ASSERT_NE(writer, nullptr);
  writer->begin({}, ": ping\n\n");
  client.read_until(": ping\n\n\r\n8\r\n: ping");
  EXPECT_TRUE(writer->write("one"));
  EXPECT_NE(client.read_until("3\r\none\r\n").find("3\r\none\r\n"), std::string::npos);
  EXPECT_TRUE(writer->write("two"));
  writer->end();
  const Reply reply = client.reply();
  EXPECT_TRUE(reply.body.ends_with("two")) << reply.body;
  client.send(http_request("POST", "/echo", "again"));
  EXPECT_EQ(client.reply().body, "POST again");
  EXPECT_EQ(handler.gone, 0);
}

TEST_F(HttpServerTest, SaysThatAClientIsGone) {
  start();
  SocketClient closes(port), resets(port), stops(port);
  for (SocketClient* client : {&closes, &resets, &stops}) {
    client->send(http_request("GET", "/keep"));
  }
  const auto first = handler.take_kept(), second = handler.take_kept(), third = handler.take_kept();
  closes.close();
  EXPECT_TRUE(soon([&] { return handler.gone == 1; }));
  resets.reset();
  EXPECT_TRUE(soon([&] { return handler.gone == 2; }));
  stops.half_close();
  EXPECT_TRUE(soon([&] { return handler.gone == 3; }));
  for (const auto& writer : {first, second, third}) {
    ASSERT_NE(writer, nullptr);
    EXPECT_FALSE(writer->write("x"));
  }
  // Who has only stopped to ask may still read what is ready.
  SocketClient asks(port);
  asks.send(http_request("POST", "/echo", "bye"));
  asks.half_close();
  EXPECT_EQ(asks.reply().body, "POST bye");
}

TEST_F(HttpServerTest, WhoDoesNotReadIsLetGo) {
  HttpLimits limits;
  limits.unsent_bytes = 100000;
  start(limits);
  SocketClient client(port);
  client.take_little();
  client.send(http_request("GET", "/keep"));
  const auto writer = handler.take_kept();
  ASSERT_NE(writer, nullptr);
  writer->begin({}, "");
  const auto begin = Clock::now();
  bool taken = true;
  for (int i = 0; i < 100000 && taken; ++i) taken = writer->write(std::string(1000, 'x'));
  EXPECT_FALSE(taken);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(30));
  EXPECT_TRUE(soon([&] { return handler.gone == 1; }));
  expect_good_answer();
}

TEST_F(HttpServerTest, ALostRequestIsAnErrorToItsClient) {
  start();
  EXPECT_EQ(ask_server(port, "GET", "/lost").status, 500);
}

TEST_F(HttpServerTest, StopsWhenAnswersAreSent) {
  start();
  SocketClient idle(port), kept(port);
  kept.send(http_request("GET", "/keep"));
  auto writer = handler.take_kept();
  ASSERT_NE(writer, nullptr);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    HttpResponse response;
    response.body = "late";
    writer->respond(std::move(response));
    writer.reset();
  });
  server->stop(30);
  later.join();
  EXPECT_EQ(kept.reply().body, "late");
  EXPECT_TRUE(idle.ends());
  EXPECT_FALSE(SocketClient(port).connected());
  EXPECT_EQ(server->connections(), 0);
}

TEST_F(HttpServerTest, SaysWhyItCannotListen) {
  start();
  HttpOptions options;
  options.port = port;
  EXPECT_THROW(HttpServer(options, handler), Error);
  options.host = "no.such.host.invalid";
  EXPECT_THROW(HttpServer(options, handler), Error);
  options.host = "127.0.0.1";
  options.certificate = options.key = "/nowhere.pem";
  EXPECT_THROW(HttpServer(options, handler), Error);
}

}  // namespace
}  // namespace fovea
