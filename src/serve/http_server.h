// HTTP/1.1 over TCP or TLS: sockets, time limits and memory limits. What is answered is a handler's affair.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "serve/http_message.h"

namespace fovea {

struct HttpLimits {
  int64_t body_bytes = int64_t{64} << 20;
  int64_t all_bodies_bytes = int64_t{256} << 20;  // of requests that were read and not yet let go
  int64_t header_bytes = int64_t{32} << 10;
  int64_t unsent_bytes = int64_t{4} << 20;  // of one answer that its reader does not take
  int64_t connections = 1024;
  // In seconds: from the first byte of a head to its last, of a body from its head on, for a piece of an
  // answer to be taken, between requests, and of silence until while_silent is sent.
  double header_s = 10, body_s = 120, write_s = 60, idle_s = 75, silence_s = 15;
};

struct HttpOptions {
  std::string host = "127.0.0.1";  // an address or a name of this machine
  uint16_t port = 8000;            // 0: one that is free
  std::string certificate, key;    // PEM files; empty: without TLS
  HttpLimits limits;
};

// Called from the server's threads; neither call may block.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // An answer before the body is read, if the head suffices for one.
  virtual std::optional<HttpResponse> answer_early(const HttpHead& head) = 0;
  virtual void handle(HttpRequest request, std::shared_ptr<ResponseWriter> writer) = 0;
  // The answer to what was no request, or was too large.
  virtual HttpResponse refusal(int status, const std::string& words) = 0;
};

class HttpServer {
 public:
  // Listens from now on, and answers from start() on. The handler is borrowed. Throws Error(io |
  // invalid_argument) naming the address, or the file of certificate or key.
  HttpServer(const HttpOptions& options, HttpHandler& handler);
  // Ends all connections at once.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  void start(int threads);
  // Accepts nobody from now on; answers that are under way have so many seconds to be sent.
  void stop(double seconds);

  uint16_t port() const;
  int64_t connections() const;
  // "http://127.0.0.1:8000"
  std::string address() const;

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace fovea
