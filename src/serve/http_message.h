// HTTP as the rest of this layer sees it: without sockets, so that all of it can be tested without them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fovea {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// The beginning of a request, before its body.
struct HttpHead {
  std::string method, target;  // as sent
  HttpHeaders headers;
  std::string peer;           // who asks: an address
  std::string local_address;  // at which he asks: an address
  bool secure = false;        // over TLS

  // The target without what is behind "?".
  std::string path() const { return target.substr(0, target.find('?')); }
  // The value of a header, whose name is compared without case; null when it is not there. Of several the
  // first.
  const std::string* header(std::string_view name) const;
  // How often it is there.
  int64_t count(std::string_view name) const;
};

struct HttpRequest {
  HttpHead head;
  // Counts against the memory of all bodies until it is let go; never null.
  std::shared_ptr<const std::string> body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;
  std::string body;
};

// Where the answer to one request goes: respond() once, or begin(), any number of write() and end(). No call
// blocks. Any thread, but not two at once. If it is destroyed without an answer, the client gets a 500.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void respond(HttpResponse response) = 0;
  // A response that comes in pieces; its body is ignored. While none comes for some time, `while_silent` is
  // sent; empty: nothing is.
  virtual void begin(HttpResponse head, std::string while_silent) = 0;
  // False when nobody reads it any more, or not fast enough; it is then not sent.
  virtual bool write(std::string_view piece) = 0;
  virtual void end() = 0;
  // Called once, from any thread, maybe at once, if the client goes before the answer has ended.
  virtual void on_gone(std::function<void()> gone) = 0;
};

bool equal_without_case(std::string_view a, std::string_view b);

}  // namespace fovea
