// One request and its answer: name, time, headers that every answer has, a line of the log.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "serve/http_message.h"
#include "serve/metrics.h"

namespace fovea {

// Server-sent events.
std::string event_of(const std::string& json);
inline constexpr const char* kStreamEnd = "data: [DONE]\n\n";
inline constexpr const char* kPing = ": ping\n\n";

// Takes one line of JSON; from any thread.
using LogFn = std::function<void(const std::string& line)>;

// Of a path that is known; others are counted as one.
struct ExchangeInfo {
  std::string id;       // "x-request-id", as it was sent or made here
  std::string path;     // the route's
  HttpHeaders headers;  // of every answer
  std::string key;      // the API key that was given
  bool log = false;     // also when nothing went wrong
};

// Of one thread at a time, but for gone() and seconds().
class Exchange {
 public:
  // `metrics` is borrowed.
  Exchange(const HttpHead& head, ExchangeInfo info, std::shared_ptr<ResponseWriter> writer, Metrics& metrics,
           LogFn log);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const std::string& id() const { return info_.id; }
  const std::string& key() const { return info_.key; }
  double seconds() const;  // since it arrived
  // The client is gone, or reads too slowly.
  bool gone() const { return gone_; }
  // `gone` is called once if that happens before the end.
  void watch(std::function<void()> gone);

  void respond(HttpResponse response);
  void respond(const nlohmann::ordered_json& json);
  void begin_stream();
  void event(const std::string& json);
  // `status`: for the log alone, where the answer failed behind its first event.
  void end_stream(int status = 200);
  // A field of the line in the log.
  void note(const char* name, nlohmann::ordered_json value) { notes_[name] = std::move(value); }

 private:
  void finish(int status);

  std::string method_, peer_;
  ExchangeInfo info_;
  std::shared_ptr<ResponseWriter> writer_;
  Metrics& metrics_;
  LogFn log_;
  nlohmann::ordered_json notes_ = nlohmann::ordered_json::object();
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::shared_ptr<std::atomic<bool>> gone_flag_ = std::make_shared<std::atomic<bool>>(false);
  std::atomic<bool>& gone_ = *gone_flag_;
  bool finished_ = false;
};

// A line of the log: {"time": ..., "event": ..., then the fields}.
std::string log_line(const char* event, const nlohmann::ordered_json& fields);

}  // namespace fovea
