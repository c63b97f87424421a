// Who may ask, from where: what a request's head must say before anything is done for it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serve/api_keys.h"
#include "serve/http_message.h"
#include "serve/http_problem.h"

namespace fovea {

struct AccessRules {
  std::string host;                        // that the server is bound to
  std::vector<std::string> allowed_hosts;  // further names; "*": any
  std::vector<std::string> cors_origins;   // "https://chat.example"; "*": any
  ApiKeys keys;                            // empty: everybody may ask
};

// A page in somebody's browser must not reach a server that only listens to this machine: neither by a name
// that its owner made lead here (the Host header), nor by a request of another site (Origin, and a content
// type that browsers do not send without asking). Functions of the head alone; any thread.
class Access {
 public:
  explicit Access(AccessRules rules) : rules_(std::move(rules)) {}

  // Throws HttpProblem: 400 without or with several Host headers, 403 for a name or an origin that is not
  // allowed.
  void check_origin(const HttpHead& head) const;
  // Throws HttpProblem(401) without a key that is known ("Authorization: Bearer" or "X-Api-Key").
  void check_key(const HttpHead& head) const;
  // Throws HttpProblem(415) when a body is announced as anything but JSON.
  static void check_content_type(const HttpHead& head);

  // The key that was given, as it is; empty without one.
  static std::string key_of(const HttpHead& head);
  // What lets a page of an allowed origin read the answer.
  HttpHeaders cors_headers(const HttpHead& head) const;
  // The answer to a browser that asks before it sends (OPTIONS).
  HttpResponse preflight(const HttpHead& head) const;

 private:
  bool is_allowed_host(const HttpHead& head, const std::string& host) const;
  bool is_allowed_origin(const HttpHead& head, const std::string& origin) const;
  bool is_listed_origin(const std::string& origin) const;

  AccessRules rules_;
};

// "[::1]:8000" to "::1", "Name:80" to "name".
std::string host_name(std::string_view host);

}  // namespace fovea
