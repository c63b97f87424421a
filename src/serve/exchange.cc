#include "serve/exchange.h"

#include <fmt/format.h>

#include <ctime>
#include <utility>

#include "api/chat_response.h"

namespace fovea {

namespace {

constexpr int kClientGone = 499;  // nginx's number for it, in logs and metrics alone

std::string utc_now() {
  using namespace std::chrono;
  const auto now = system_clock::now();
  const std::time_t seconds = system_clock::to_time_t(now);
  const auto millis = duration_cast<milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  return fmt::format("{}.{:03}Z", text, millis);
}

}  // namespace

std::string event_of(const std::string& json) { return "data: " + json + "\n\n"; }

std::string log_line(const char* event, const nlohmann::ordered_json& fields) {
  nlohmann::ordered_json line = {{"time", utc_now()}, {"event", event}};
  line.update(fields);
  return json_line(line);
}

Exchange::Exchange(const HttpHead& head, ExchangeInfo info, std::shared_ptr<ResponseWriter> writer,
                   Metrics& metrics, LogFn log)
    : method_(head.method),
      peer_(head.peer),
      info_(std::move(info)),
      writer_(std::move(writer)),
      metrics_(metrics),
      log_(std::move(log)) {}

Exchange::~Exchange() { finish(kClientGone); }

double Exchange::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Exchange::watch(std::function<void()> gone) {
  writer_->on_gone([flag = gone_flag_, gone = std::move(gone)] {
    *flag = true;
    gone();
  });
}

void Exchange::respond(HttpResponse response) {
  const int status = response.status;
  response.headers.insert(response.headers.end(), info_.headers.begin(), info_.headers.end());
  finish(gone_ ? kClientGone : status);
  writer_->respond(std::move(response));
}

void Exchange::respond(const nlohmann::ordered_json& json) {
  HttpResponse response;
  response.body = json_line(json);
  respond(std::move(response));
}

void Exchange::begin_stream() {
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = info_.headers;
  head.headers.emplace_back("Cache-Control", "no-store");
  head.headers.emplace_back("X-Accel-Buffering", "no");  // of nginx
  writer_->begin(std::move(head), kPing);
}

void Exchange::event(const std::string& json) {
  if (!gone_ && !writer_->write(event_of(json))) gone_ = true;
}

void Exchange::end_stream(int status) {
  finish(gone_ ? kClientGone : status);
  if (!gone_) writer_->write(kStreamEnd);
  writer_->end();
}

void Exchange::finish(int status) {
  if (std::exchange(finished_, true)) return;
  metrics_.count_response(method_, info_.path, status);
  if (!log_ || (!info_.log && (status < 500 || status == 503))) return;
  nlohmann::ordered_json fields = {{"request_id", info_.id}, {"peer", peer_},    {"method", method_},
                                   {"path", info_.path},     {"status", status}, {"seconds", seconds()}};
  fields.update(notes_);
  log_(log_line("request", fields));
}

}  // namespace fovea
