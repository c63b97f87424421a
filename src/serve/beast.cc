// All of Boost.Beast and Asio, which take long to compile: the HTTP server and the client that fetches
// pictures.
#include <fmt/format.h>

#include <ctime>
#include <thread>

#include "base/error.h"
#include "base/field_error.h"
#include "serve/address_rules.h"
#include "serve/http_connection.h"
#include "serve/http_server.h"
#include "serve/https_fetch.h"

namespace fovea {

using namespace beast_server;

namespace {

// TLS 1.2 and newer, for clients and servers that we talk to.
constexpr auto kTlsOptions = ssl::context::default_workarounds | ssl::context::no_sslv2 |
                             ssl::context::no_sslv3 | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1;

}  // namespace

namespace beast_server {

std::string head_text(const HttpResponse& response, bool in_pieces, bool keep_alive) {
  const auto reason = http::obsolete_reason(static_cast<http::status>(response.status));
  std::tm utc{};
  const std::time_t now = std::time(nullptr);
  gmtime_r(&now, &utc);
  char date[40];
  std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
  std::string text =
      fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: fovea\r\nConnection: {}\r\n", response.status,
                  std::string(reason), date, keep_alive ? "keep-alive" : "close");
  if (!response.content_type.empty()) text += fmt::format("Content-Type: {}\r\n", response.content_type);
  if (in_pieces) {
    text += "Transfer-Encoding: chunked\r\n";
  } else if (response.status != 204) {
    text += fmt::format("Content-Length: {}\r\n", response.body.size());
  }
  for (const auto& [name, value] : response.headers) text += fmt::format("{}: {}\r\n", name, value);
  return text + "\r\n";
}

}  // namespace beast_server

class HttpServer::State : public std::enable_shared_from_this<State> {
 public:
  State(const HttpOptions& options, HttpHandler& handler)
      : options_(options), shared_(options_.limits, handler), acceptor_(context_), retry_(context_) {
    if (!options.certificate.empty()) open_tls();
    listen();
  }
  ~State() {
    context_.stop();
    for (std::thread& thread : threads_) thread.join();
    for (const auto& one : open_connections()) one->close_now();
  }

  void start(int threads) {
    accept();
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { context_.run(); });
  }

  void stop(double seconds) {
    shared_.stopping = true;
    net::post(context_, [this] {
      ErrorCode ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
    close_all(true);
    const auto end = Clock::now() + in_seconds(seconds);
    while (shared_.connections > 0 && Clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      close_all(true);
    }
    close_all(false);
    work_.reset();
  }

  uint16_t port() const { return port_; }
  int64_t connections() const { return shared_.connections; }
  std::string address() const {
    const bool brackets = options_.host.find(':') != std::string::npos;
    return fmt::format("{}://{}:{}", tls_ ? "https" : "http",
                       brackets ? "[" + options_.host + "]" : options_.host, port_);
  }

 private:
  void open_tls() {
    tls_.emplace(ssl::context::tls_server);
    tls_->set_options(kTlsOptions);
    const auto use = [](const std::string& file, const char* what, const auto& load) {
      ErrorCode error;
      load(error);
      if (!error) return;
      throw Error(ErrorKind::invalid_argument, fmt::format("{}: no {}: {}", file, what, error.message()),
                  "give PEM files: --ssl-cert the certificate with its chain, --ssl-key its private key");
    };
    use(options_.certificate, "certificate",
        [&](ErrorCode& error) { tls_->use_certificate_chain_file(options_.certificate, error); });
    use(options_.key, "private key of the certificate",
        [&](ErrorCode& error) { tls_->use_private_key_file(options_.key, ssl::context::pem, error); });
  }

  [[noreturn]] void refuse_address(const ErrorCode& error) const {
    throw Error(ErrorKind::io,
                fmt::format("cannot listen at {} port {}: {}", options_.host, options_.port, error.message()),
                "choose another --host or --port (0: one that is free), or end what uses it");
  }

  void listen() {
    ErrorCode error;
    tcp::resolver resolver(context_);
    const auto found = resolver.resolve(options_.host, std::to_string(options_.port),
                                        tcp::resolver::passive | tcp::resolver::numeric_service, error);
    if (error || found.empty()) refuse_address(error);
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(net::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(net::socket_base::max_listen_connections, error);
    if (error) refuse_address(error);
    port_ = acceptor_.local_endpoint().port();
  }

  void accept() {
    acceptor_.async_accept(net::make_strand(context_), [this](const ErrorCode& error, tcp::socket socket) {
      if (!acceptor_.is_open() || error == net::error::operation_aborted) return;
      if (!error) {
        take(std::move(socket));
        return accept_when_there_is_room();
      }
      make_room();  // no files are left, say
      accept_later(std::chrono::milliseconds(50));
    });
  }
  // Who is to make room takes a moment for it.
  void accept_when_there_is_room() {
    if (shared_.connections <= options_.limits.connections) return accept();
    accept_later(std::chrono::milliseconds(1));
  }
  void accept_later(std::chrono::milliseconds wait) {
    retry_.expires_after(wait);
    retry_.async_wait([this](const ErrorCode& ended) {
      if (!ended && acceptor_.is_open()) accept_when_there_is_room();
    });
  }

  void take(tcp::socket socket) {
    if (shared_.connections >= options_.limits.connections && !make_room()) return;  // closes it
    if (tls_) {
      std::make_shared<Connection<ssl::stream<tcp::socket>>>(
          ssl::stream<tcp::socket>(std::move(socket), *tls_), shared_)
          ->start();
    } else {
      std::make_shared<Connection<tcp::socket>>(std::move(socket), shared_)->start();
    }
  }

  // Ends the connection that has waited longest for a request to come or to be complete.
  bool make_room() {
    std::shared_ptr<AnyConnection> oldest;
    {
      const std::lock_guard lock(shared_.mutex);
      for (auto& weak : shared_.waiting) {
        if ((oldest = weak.lock())) break;
      }
    }
    if (oldest) oldest->close_soon();
    return oldest != nullptr;
  }

  std::vector<std::shared_ptr<AnyConnection>> open_connections() {
    const std::lock_guard lock(shared_.mutex);
    std::vector<std::shared_ptr<AnyConnection>> open;
    for (auto& weak : shared_.all) {
      if (auto one = weak.lock()) open.push_back(std::move(one));
    }
    return open;
  }

  void close_all(bool but_those_that_answer) {
    for (const auto& one : open_connections()) {
      if (!but_those_that_answer || !one->answers()) one->close_soon();
    }
  }

  HttpOptions options_;
  Shared shared_;
  net::io_context context_;
  net::executor_work_guard<net::io_context::executor_type> work_ = net::make_work_guard(context_);
  std::optional<ssl::context> tls_;
  tcp::acceptor acceptor_;
  net::steady_timer retry_;
  uint16_t port_ = 0;
  std::vector<std::thread> threads_;
};

HttpServer::HttpServer(const HttpOptions& options, HttpHandler& handler)
    : state_(std::make_shared<State>(options, handler)) {}
HttpServer::~HttpServer() = default;
void HttpServer::start(int threads) { state_->start(threads); }
void HttpServer::stop(double seconds) { state_->stop(seconds); }
uint16_t HttpServer::port() const { return state_->port(); }
int64_t HttpServer::connections() const { return state_->connections(); }
std::string HttpServer::address() const { return state_->address(); }

namespace {

// Runs one asynchronous operation to its end.
template <class Begin>
ErrorCode complete(net::io_context& context, const Begin& begin) {
  ErrorCode result;
  begin([&](const ErrorCode& error, auto&&...) { result = error; });
  context.restart();
  context.run();
  return result;
}

class Fetch {
 public:
  Fetch(const MediaAddress& address, const FetchRules& rules, const std::string& field)
      : address_(address), rules_(rules), field_(field), tls_(ssl::context::tls_client) {}

  std::string run() {
    const auto endpoints = admitted_endpoints();
    open_tls();
    beast::ssl_stream<beast::tcp_stream> stream(context_, tls_);
    beast::get_lowest_layer(stream).expires_after(in_seconds(rules_.seconds));
    if (SSL_set_tlsext_host_name(stream.native_handle(), address_.host.c_str()) != 1)
      fail("cannot be asked for");
    stream.set_verify_callback(ssl::host_name_verification(address_.host));
    require(complete(context_,
                     [&](auto done) {
                       beast::get_lowest_layer(stream).async_connect(
                           endpoints,
                           [done](const ErrorCode& error, const tcp::endpoint&) mutable { done(error); });
                     }),
            "cannot be connected to");
    require(complete(context_, [&](auto done) { stream.async_handshake(ssl::stream_base::client, done); }),
            "has no certificate that is valid for its name");
    return exchange(stream);
  }

 private:
  [[noreturn]] void fail(const std::string& words) const {
    throw FieldError(ErrorKind::invalid_argument, field_, words,
                     "check the address, or send the picture as a data:image/...;base64, URL");
  }
  void require(const ErrorCode& error, const char* words) const {
    if (error == beast::error::timeout) fail(fmt::format("was not sent within {} seconds", rules_.seconds));
    if (error) fail(words);
  }

  std::vector<tcp::endpoint> admitted_endpoints() {
    ErrorCode error;
    tcp::resolver resolver(context_);
    const auto found =
        resolver.resolve(address_.host, std::to_string(address_.port), tcp::resolver::numeric_service, error);
    if (error || found.empty()) fail("is of a host that is not known");
    std::vector<tcp::endpoint> endpoints;
    for (const auto& entry : found) {
      const net::ip::address address = entry.endpoint().address();
      const bool admitted =
          address.is_v4() ? admits(address.to_v4().to_bytes()) : admits(address.to_v6().to_bytes());
      if (!admitted) fail("leads to an address that is not on the open internet");
      endpoints.push_back(entry.endpoint());
    }
    return endpoints;
  }
  bool admits(std::span<const uint8_t> bytes) const {
    return rules_.admits ? rules_.admits(bytes) : is_public_address(bytes);
  }

  void open_tls() {
    ErrorCode error;
    tls_.set_options(kTlsOptions);
    if (rules_.certificates.empty()) {
      tls_.set_default_verify_paths(error);
    } else {
      tls_.load_verify_file(rules_.certificates, error);
    }
    if (error)
      throw Error(ErrorKind::io, "the certificates of this system cannot be read", "install ca-certificates");
    tls_.set_verify_mode(ssl::verify_peer);
  }

  template <class Stream>
  std::string exchange(Stream& stream) {
    http::request<http::empty_body> request(http::verb::get, address_.target, 11);
    request.set(http::field::host,
                address_.port == 443 ? address_.host : fmt::format("{}:{}", address_.host, address_.port));
    request.set(http::field::user_agent, "fovea");
    request.set(http::field::accept, "image/*, video/*");
    request.set(http::field::accept_encoding, "identity");
    request.set(http::field::connection, "close");
    require(complete(context_, [&](auto done) { http::async_write(stream, request, done); }),
            "cannot be read");
    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(static_cast<uint64_t>(rules_.bytes));
    while (!parser.is_done()) {
      const ErrorCode error =
          complete(context_, [&](auto done) { http::async_read_some(stream, buffer, parser, done); });
      const bool too_large =
          error == http::error::body_limit || std::ssize(parser.get().body()) > rules_.bytes;
      if (too_large) fail(fmt::format("has more than {} bytes", rules_.bytes));
      require(error, "cannot be read");
    }
    const unsigned status = parser.get().result_int();
    if (status / 100 == 3) fail("leads to another address, which is not followed");
    if (status != 200) fail("is not there");
    return std::move(parser.get().body());
  }

  const MediaAddress& address_;
  const FetchRules& rules_;
  const std::string& field_;
  net::io_context context_;
  ssl::context tls_;
};

}  // namespace

std::string fetch_https(const MediaAddress& address, const FetchRules& rules, const std::string& field) {
  return Fetch(address, rules, field).run();
}

}  // namespace fovea
