// One connection of the HTTP server; private to beast.cc. Everything of it happens on its own strand.
//
// Bytes are read whenever there is room for them: they are a head, a body, the beginning of the next request,
// or the end of the connection, which is noticed in this way while an answer is being made.
#pragma once

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <chrono>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

// Behind <utility>, which Boost 1.74's Asio forgets.
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>

#include "serve/http_server.h"

namespace fovea::beast_server {

namespace net = boost::asio;
namespace ssl = net::ssl;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = net::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;

inline Clock::duration in_seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

class AnyConnection;

// What all connections share.
struct Shared {
  Shared(const HttpLimits& limits_, HttpHandler& handler_) : limits(limits_), handler(handler_) {}

  const HttpLimits& limits;
  HttpHandler& handler;
  // Bodies may outlive the server.
  std::shared_ptr<std::atomic<int64_t>> body_bytes = std::make_shared<std::atomic<int64_t>>(0);
  std::atomic<int64_t> connections{0};
  std::atomic<bool> stopping{false};
  // All connections, and of them those that wait for a request or for the client's end, the longest first:
  // when there are too many, the first goes.
  std::mutex mutex;
  std::list<std::weak_ptr<AnyConnection>> all, waiting;
};

// What an answer's writer and its connection both know.
struct Progress {
  std::atomic<int64_t> unsent{0};
  std::mutex mutex;
  bool gone = false, over = false;
  std::function<void()> on_gone;

  void set_gone() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex);
      if (gone || over) return;
      gone = true;
      call = std::exchange(on_gone, {});
    }
    if (call) call();
  }
  void set_over() {
    const std::lock_guard lock(mutex);
    over = true;
    on_gone = {};
  }
  bool is_gone() {
    const std::lock_guard lock(mutex);
    return gone;
  }
};

class AnyConnection {
 public:
  virtual ~AnyConnection() = default;
  virtual void close_soon() = 0;  // from any thread
  virtual void close_now() = 0;   // when no thread of the server runs any more
  virtual bool answers() const = 0;
  virtual void send(HttpResponse response, bool in_pieces, std::string while_silent) = 0;
  virtual void send_piece(std::string piece) = 0;
  virtual void send_end() = 0;
};

class Writer final : public ResponseWriter {
 public:
  Writer(const std::shared_ptr<AnyConnection>& connection, std::shared_ptr<Progress> progress,
         int64_t most_unsent, HttpHandler& handler)
      : connection_(connection),
        progress_(std::move(progress)),
        most_unsent_(most_unsent),
        handler_(handler) {}
  ~Writer() override {
    if (!begun_) respond(handler_.refusal(500, "the request was lost"));
    if (!ended_) end();
  }
  void respond(HttpResponse response) override {
    begun_ = ended_ = true;
    if (const auto open = connection_.lock()) open->send(std::move(response), false, {});
  }
  void begin(HttpResponse head, std::string while_silent) override {
    begun_ = true;
    if (const auto open = connection_.lock()) open->send(std::move(head), true, std::move(while_silent));
  }
  bool write(std::string_view piece) override {
    const auto open = connection_.lock();
    if (!open || progress_->is_gone()) return false;
    const auto size = static_cast<int64_t>(piece.size());
    if (progress_->unsent.fetch_add(size) + size > most_unsent_) {
      open->close_soon();
      return false;
    }
    open->send_piece(std::string(piece));
    return true;
  }
  void end() override {
    ended_ = true;
    if (const auto open = connection_.lock()) open->send_end();
  }
  void on_gone(std::function<void()> gone) override {
    {
      const std::lock_guard lock(progress_->mutex);
      if (progress_->over) return;
      if (!progress_->gone) {
        progress_->on_gone = std::move(gone);
        return;
      }
    }
    gone();
  }

 private:
  std::weak_ptr<AnyConnection> connection_;  // which may end before its answer is ready
  std::shared_ptr<Progress> progress_;
  int64_t most_unsent_;
  HttpHandler& handler_;
  bool begun_ = false, ended_ = false;
};

// The status line and the headers of an answer. Content-Length unless it comes in pieces.
std::string head_text(const HttpResponse& response, bool in_pieces, bool keep_alive);

// Stream: tcp::socket, or ssl::stream<tcp::socket>.
template <class Stream>
class Connection final : public AnyConnection, public std::enable_shared_from_this<Connection<Stream>> {
  static constexpr bool kSecure = !std::is_same_v<Stream, tcp::socket>;
  static constexpr size_t kReadAtOnce = 16 << 10, kReadAhead = 64 << 10;
  static constexpr int64_t kMostLingering = 8 << 20;

 public:
  Connection(Stream stream, Shared& shared)
      : shared_(shared), stream_(std::move(stream)), deadline_(executor()), silence_(executor()) {
    ++shared_.connections;
  }
  ~Connection() override {
    if (progress_) progress_->set_gone();
    *shared_.body_bytes -= counted_;
    forget();
    --shared_.connections;
  }

  // Once, behind make_shared.
  void start() {
    ErrorCode unknown;
    head_.peer = socket().remote_endpoint(unknown).address().to_string();
    head_.local_address = socket().local_endpoint(unknown).address().to_string();
    head_.secure = kSecure;
    socket().set_option(tcp::no_delay(true), unknown);
    {
      const std::lock_guard lock(shared_.mutex);
      in_all_ = shared_.all.insert(shared_.all.end(), this->weak_from_this());
      known_ = true;
    }
    post([](Connection& self) { self.begin(); });
  }

  void close_soon() override {
    post([](Connection& self) { self.close(); });
  }
  void close_now() override { close(); }
  bool answers() const override { return answering_; }
  void send(HttpResponse response, bool in_pieces, std::string while_silent) override {
    post([response = std::move(response), in_pieces,
          while_silent = std::move(while_silent)](Connection& self) mutable {
      self.begin_answer(std::move(response), in_pieces, std::move(while_silent));
    });
  }
  void send_piece(std::string piece) override {
    post([piece = std::move(piece)](Connection& self) {
      self.last_sent_ = Clock::now();
      self.send_framed(piece, static_cast<int64_t>(piece.size()));
    });
  }
  void send_end() override {
    post([](Connection& self) {
      if (self.in_pieces_ && self.chunked_) self.out_ += "0\r\n\r\n";
      self.ended_ = true;
      self.flush();
    });
  }

 private:
  enum class State { handshake, waiting, head, body, answering, lingering, closed };

  net::any_io_executor executor() { return stream_.get_executor(); }
  tcp::socket& socket() {
    if constexpr (kSecure) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }
  template <class Work>
  void post(Work work) {
    net::post(executor(), [self = this->shared_from_this(), work = std::move(work)]() mutable {
      if (self->state_ != State::closed) work(*self);
    });
  }
  void set_deadline(double seconds) {
    deadline_.expires_after(in_seconds(seconds));
    deadline_.async_wait([self = this->shared_from_this()](const ErrorCode& error) {
      if (!error && self->deadline_.expiry() <= Clock::now()) self->close();
    });
  }
  void clear_deadline() { deadline_.cancel(); }

  void enter_waiting() {
    const std::lock_guard lock(shared_.mutex);
    if (waits_) shared_.waiting.erase(in_waiting_);
    in_waiting_ = shared_.waiting.insert(shared_.waiting.end(), this->weak_from_this());
    waits_ = true;
  }
  void leave_waiting() {
    const std::lock_guard lock(shared_.mutex);
    if (std::exchange(waits_, false)) shared_.waiting.erase(in_waiting_);
  }
  void forget() {
    leave_waiting();
    const std::lock_guard lock(shared_.mutex);
    if (std::exchange(known_, false)) shared_.all.erase(in_all_);
  }

  void begin() {
    enter_waiting();
    set_deadline(shared_.limits.header_s);
    if constexpr (kSecure) {
      stream_.async_handshake(ssl::stream_base::server,
                              [self = this->shared_from_this()](const ErrorCode& error) {
                                if (self->state_ == State::closed) return;
                                if (error) return self->close();
                                self->next_request();
                              });
    } else {
      next_request();
    }
  }

  void next_request() {
    if (shared_.stopping) return close();
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(shared_.limits.header_bytes));
    parser_->body_limit(static_cast<uint64_t>(shared_.limits.body_bytes));
    state_ = State::waiting;
    enter_waiting();
    set_deadline(first_ ? shared_.limits.header_s : shared_.limits.idle_s);
    first_ = false;
    parse();
  }

  // One read at a time, also while an answer is made.
  void read() {
    if (reading_ || peer_done_ || state_ == State::closed) return;
    if (state_ == State::answering && buffer_.size() >= kReadAhead) return;
    reading_ = true;
    stream_.async_read_some(net::buffer(incoming_),
                            [self = this->shared_from_this()](const ErrorCode& error, size_t bytes) {
                              self->reading_ = false;
                              if (self->state_ != State::closed) self->take(error, bytes);
                            });
  }

  void take(const ErrorCode& error, size_t bytes) {
    // Not read into the buffer itself, which may be consumed in the meantime.
    buffer_.commit(net::buffer_copy(buffer_.prepare(bytes), net::buffer(incoming_, bytes)));
    if (error) {
      const bool ended = error == net::error::eof || error == ssl::error::stream_truncated;
      peer_done_ = true;
      if (state_ != State::answering || !ended) return close();
      progress_->set_gone();  // what is answered at once still reaches who has only stopped to ask
      return;
    }
    if (state_ == State::lingering) {
      lingered_ += static_cast<int64_t>(bytes);
      buffer_.consume(buffer_.size());
      return lingered_ > kMostLingering ? close() : read();
    }
    state_ == State::answering ? read() : parse();
  }

  void parse() {
    if (buffer_.size() == 0) return read();
    if (state_ == State::waiting) {
      state_ = State::head;
      set_deadline(shared_.limits.header_s);
    }
    while (buffer_.size() > 0 && !parser_->is_done()) {
      ErrorCode error;
      buffer_.consume(parser_->put(buffer_.data(), error));
      if (error && error != http::error::need_more) return refuse(error);
      if (state_ == State::head && parser_->is_header_done() && !take_head()) return;
      if (state_ == State::body && !count_body()) return;
      if (error == http::error::need_more) break;
    }
    parser_->is_done() ? hand_over() : read();
  }

  // False if the answer is clear already.
  bool take_head() {
    state_ = State::body;
    set_deadline(shared_.limits.body_s);
    const auto& message = parser_->get();
    head_.method = std::string(message.method_string());
    head_.target = std::string(message.target());
    head_.headers.clear();
    for (const auto& field : message) {
      head_.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    }
    keep_alive_ = message.keep_alive();
    chunked_ = message.version() >= 11;
    if (std::optional<HttpResponse> early = shared_.handler.answer_early(head_)) {
      const bool has_body = message.chunked() || parser_->content_length().value_or(0) > 0;
      if (has_body) keep_alive_ = false;
      answer_at_once(std::move(*early));
      return false;
    }
    const std::string* expected = head_.header("Expect");
    if (expected != nullptr && equal_without_case(*expected, "100-continue")) {
      out_ += "HTTP/1.1 100 Continue\r\n\r\n";
      flush();
    }
    parser_->eager(true);
    return true;
  }

  // Memory is counted as it comes, for a length that was announced costs nothing.
  bool count_body() {
    const auto size = static_cast<int64_t>(parser_->get().body().size());
    *shared_.body_bytes += size - counted_;
    counted_ = size;
    if (*shared_.body_bytes <= shared_.limits.all_bodies_bytes) return true;
    keep_alive_ = false;
    answer_at_once(shared_.handler.refusal(503, "there is no memory for another request"));
    return false;
  }

  void refuse(const ErrorCode& error) {
    keep_alive_ = false;
    const bool head = error == http::error::header_limit, body = error == http::error::body_limit;
    if (!parser_->is_header_done()) {
      head_.method = "GET";
      head_.headers.clear();
      chunked_ = true;
    }
    answer_at_once(shared_.handler.refusal(head   ? 431
                                           : body ? 413
                                                  : 400,
                                           head   ? "the headers are too large"
                                           : body ? "the body is too large"
                                                  : "this is no request of HTTP/1.1"));
  }

  std::shared_ptr<Progress> expect_answer() {
    state_ = State::answering;
    answering_ = true;
    self_ = this->shared_from_this();
    leave_waiting();
    clear_deadline();
    in_pieces_ = ended_ = begun_ = false;
    while_silent_.clear();
    progress_ = std::make_shared<Progress>();
    return progress_;
  }

  void answer_at_once(HttpResponse response) {
    expect_answer();
    begin_answer(std::move(response), false, {});
  }

  void hand_over() {
    const auto progress = expect_answer();
    auto body = std::make_unique<std::string>(std::move(parser_->get().body()));
    const int64_t bytes = std::exchange(counted_, 0);
    std::shared_ptr<const std::string> counted(
        body.release(), [counter = shared_.body_bytes, bytes](const std::string* text) {
          delete text;
          *counter -= bytes;
        });
    read();
    shared_.handler.handle({head_, std::move(counted)},
                           std::make_shared<Writer>(this->shared_from_this(), progress,
                                                    shared_.limits.unsent_bytes, shared_.handler));
  }

  void begin_answer(HttpResponse response, bool in_pieces, std::string while_silent) {
    if (state_ != State::answering || begun_) return;
    begun_ = true;
    in_pieces_ = in_pieces;
    while_silent_ = std::move(while_silent);
    if (peer_done_ || shared_.stopping) keep_alive_ = false;
    if (in_pieces && !chunked_) keep_alive_ = false;
    out_ += head_text(response, in_pieces && chunked_, keep_alive_);
    if (!in_pieces) {
      if (head_.method != "HEAD") out_ += response.body;
      ended_ = true;
    } else {
      last_sent_ = Clock::now();
      watch_silence();
    }
    flush();
  }

  void send_framed(const std::string& piece, int64_t counted) {
    if (!in_pieces_ || piece.empty()) return;
    out_ += chunked_ ? fmt::format("{:x}\r\n{}\r\n", piece.size(), piece) : piece;
    out_counted_ += counted;
    flush();
  }

  void watch_silence() {
    if (while_silent_.empty()) return;
    silence_.expires_at(last_sent_ + in_seconds(shared_.limits.silence_s));
    silence_.async_wait([self = this->shared_from_this()](const ErrorCode& error) {
      if (error || self->state_ != State::answering || self->ended_ || !self->in_pieces_) return;
      if (Clock::now() >= self->last_sent_ + in_seconds(self->shared_.limits.silence_s)) {
        self->last_sent_ = Clock::now();
        self->send_framed(self->while_silent_, 0);
      }
      self->watch_silence();
    });
  }

  void flush() {
    if (writing_ || state_ == State::closed) return;
    if (out_.empty()) {
      if (state_ == State::answering && begun_ && ended_) finish_answer();
      return;
    }
    writing_ = true;
    sending_ = std::exchange(out_, {});
    sending_counted_ = std::exchange(out_counted_, 0);
    if (state_ == State::answering) set_deadline(shared_.limits.write_s);
    net::async_write(stream_, net::buffer(sending_),
                     [self = this->shared_from_this()](const ErrorCode& error, size_t) {
                       self->writing_ = false;
                       if (self->state_ == State::closed) return;
                       if (error) return self->close();
                       if (self->progress_) self->progress_->unsent -= self->sending_counted_;
                       if (self->state_ == State::answering) self->clear_deadline();
                       self->flush();
                     });
  }

  void finish_answer() {
    const auto until_the_end = std::exchange(self_, {});
    answering_ = false;
    progress_->set_over();
    progress_.reset();
    silence_.cancel();
    *shared_.body_bytes -= std::exchange(counted_, 0);
    if (keep_alive_ && !peer_done_) return next_request();
    linger();
  }

  // What the client has still sent is read, or the system would tell it of an error before it reads its
  // answer.
  void linger() {
    constexpr double kSeconds = 2;
    state_ = State::lingering;
    enter_waiting();  // it may go when there is no room
    set_deadline(kSeconds);
    if constexpr (kSecure) {
      stream_.async_shutdown([self = this->shared_from_this()](const ErrorCode&) { self->close(); });
    } else {
      ErrorCode ignored;
      socket().shutdown(tcp::socket::shutdown_send, ignored);
      if (peer_done_) return close();
      buffer_.consume(buffer_.size());
      read();
    }
  }

  void close() {
    if (std::exchange(state_, State::closed) == State::closed) return;
    const auto until_the_end = std::exchange(self_, {});
    answering_ = false;
    ErrorCode ignored;
    socket().close(ignored);
    deadline_.cancel();
    silence_.cancel();
    if (progress_) progress_->set_gone();
    forget();
  }

  Shared& shared_;
  Stream stream_;
  net::steady_timer deadline_, silence_;
  std::array<char, kReadAtOnce> incoming_;  // of the read under way
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  HttpHead head_;
  State state_ = State::handshake;
  std::atomic<bool> answering_{false};
  bool reading_ = false, writing_ = false, peer_done_ = false, first_ = true;
  bool keep_alive_ = true, chunked_ = true;
  bool begun_ = false, ended_ = false, in_pieces_ = false;  // of the answer
  std::string while_silent_, out_, sending_;
  int64_t out_counted_ = 0, sending_counted_ = 0;
  int64_t counted_ = 0;  // of the body, in Shared::body_bytes
  int64_t lingered_ = 0;
  Clock::time_point last_sent_;
  std::shared_ptr<Progress> progress_;
  std::shared_ptr<AnyConnection> self_;  // while an answer is made, for which nothing else may hold it
  std::list<std::weak_ptr<AnyConnection>>::iterator in_all_, in_waiting_;
  bool known_ = false, waits_ = false;  // in the lists
};

}  // namespace fovea::beast_server
