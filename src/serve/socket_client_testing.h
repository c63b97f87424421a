// A client of plain sockets that can also behave badly.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace fovea {

struct Reply {
  int status = 0;                              // 0: none came
  std::map<std::string, std::string> headers;  // names in small letters
  std::string body;                            // chunks put together
};

class SocketClient {
 public:
  static constexpr double kPatience = 60;  // seconds, for machines that are busy

  explicit SocketClient(uint16_t port) : file_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(file_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~SocketClient() { close(); }
  SocketClient(const SocketClient&) = delete;
  SocketClient& operator=(const SocketClient&) = delete;

  bool connected() const { return connected_; }
  // False when the other side does not take it.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = ::send(file_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  void half_close() { ::shutdown(file_, SHUT_WR); }
  void close() {
    if (file_ >= 0) ::close(file_);
    file_ = -1;
  }
  // Ends the connection with an error to the other side.
  void reset() {
    const linger at_once{1, 0};
    ::setsockopt(file_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close();
  }
  // As little as the system allows is taken before it is read.
  void take_little() {
    const int bytes = 1;
    ::setsockopt(file_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  }

  // Reads until `text` has come; everything so far, whether it did or not.
  const std::string& read_until(std::string_view text, double seconds = kPatience) {
    while (received_.find(text) == received_.npos && receive(seconds)) {
    }
    return received_;
  }
  // Whether the other side ends the connection.
  bool ends(double seconds = kPatience) {
    while (receive(seconds)) {
    }
    return ended_;
  }
  const std::string& received() const { return received_; }

  // The next reply, whole.
  Reply reply(double seconds = kPatience) {
    Reply reply;
    const size_t head = wait_for("\r\n\r\n", 0, seconds);
    if (head == std::string::npos) return reply;
    read_head(received_.substr(0, head + 2), reply);
    size_t at = head + 4;
    if (reply.headers["transfer-encoding"] == "chunked") {
      while (true) {
        const size_t line = wait_for("\r\n", at, seconds);
        if (line == std::string::npos) return {};
        const size_t size = std::stoul(received_.substr(at, line - at), nullptr, 16);
        if (!wait_for_bytes(line + 2 + size + 2, seconds)) return {};
        reply.body += received_.substr(line + 2, size);
        at = line + 2 + size + 2;
        if (size == 0) break;
      }
    } else if (reply.headers.contains("content-length")) {
      const size_t size = std::stoul(reply.headers["content-length"]);
      if (!wait_for_bytes(at + size, seconds)) return {};
      reply.body = received_.substr(at, size);
      at += size;
    }
    received_.erase(0, at);
    return reply;
  }

 private:
  bool receive(double seconds) {
    pollfd wait{file_, POLLIN, 0};
    if (ended_ || ::poll(&wait, 1, static_cast<int>(seconds * 1000)) <= 0) return false;
    char bytes[65536];
    const ssize_t count = ::recv(file_, bytes, sizeof bytes, 0);
    if (count <= 0) {
      ended_ = true;
      return false;
    }
    received_.append(bytes, static_cast<size_t>(count));
    return true;
  }
  size_t wait_for(std::string_view text, size_t from, double seconds) {
    size_t found;
    while ((found = received_.find(text, from)) == received_.npos) {
      if (!receive(seconds)) return received_.npos;
    }
    return found;
  }
  bool wait_for_bytes(size_t size, double seconds) {
    while (received_.size() < size) {
      if (!receive(seconds)) return false;
    }
    return true;
  }
  static void read_head(std::string text, Reply& reply) {
    reply.status = std::stoi(text.substr(9, 3));
    for (size_t at = text.find("\r\n") + 2; at < text.size();) {
      const size_t end = text.find("\r\n", at), colon = text.find(": ", at);
      if (end == text.npos || colon == text.npos || colon > end) break;
      std::string name = text.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
      reply.headers[name] = text.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
  }

  int file_;
  bool connected_ = false, ended_ = false;
  std::string received_;
};

// A request as text; JSON where it has a body.
inline std::string http_request(const std::string& method, const std::string& path,
                                const std::string& body = "", const std::string& more_headers = "") {
  std::string text = method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + more_headers;
  if (!body.empty()) {
    text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  }
  return text + "\r\n" + body;
}

inline Reply ask_server(uint16_t port, const std::string& method, const std::string& path,
                        const std::string& body = "", const std::string& more_headers = "") {
  SocketClient client(port);
  client.send(http_request(method, path, body, more_headers));
  return client.reply();
}

}  // namespace fovea
