#include "serve/access.h"

#include <algorithm>

namespace fovea {

namespace {

std::string small(std::string_view text) {
  std::string smalls(text);
  for (char& c : smalls) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return smalls;
}

HttpProblem forbidden(const char* code, const std::string& message) {
  return {403, "permission_error", code, message};
}

bool is_plain(char c) { return c > ' ' && c < '\x7f'; }

}  // namespace

std::string host_name(std::string_view host) {
  std::string name = small(host);
  if (name.starts_with('[')) return name.substr(1, std::min(name.find(']'), name.size()) - 1);
  return name.substr(0, name.find(':'));
}

bool Access::is_allowed_host(const HttpHead& head, const std::string& host) const {
  const std::string name = host_name(host);
  if (name.empty()) return false;
  if (name == "localhost" || name == "127.0.0.1" || name == "::1") return true;
  if (name == head.local_address || name == small(rules_.host)) return true;
  return std::ranges::any_of(rules_.allowed_hosts, [&](const std::string& allowed) {
    return allowed == "*" || host_name(allowed) == name;
  });
}

bool Access::is_listed_origin(const std::string& origin) const {
  return std::ranges::any_of(rules_.cors_origins, [&](const std::string& allowed) {
    return allowed == "*" || equal_without_case(allowed, origin);
  });
}

bool Access::is_allowed_origin(const HttpHead& head, const std::string& origin) const {
  const std::string* host = head.header("Host");
  const std::string own = (head.secure ? "https://" : "http://") + (host != nullptr ? *host : "");
  return equal_without_case(origin, own) || is_listed_origin(origin);
}

void Access::check_origin(const HttpHead& head) const {
  const std::string* host = head.header("Host");
  if (host == nullptr || head.count("Host") != 1) {
    throw bad_request(400, "host_missing", "a request has one Host header");
  }
  if (!is_allowed_host(head, *host)) {
    throw forbidden("host_not_allowed",
                    "the Host header names another host; whoever runs this server can allow it "
                    "by --allowed-host");
  }
  const std::string* origin = head.header("Origin");
  if (origin == nullptr || is_allowed_origin(head, *origin)) return;
  throw forbidden(
      "origin_not_allowed",
      "pages of this origin may not ask; whoever runs this server can allow them by --cors-origin");
}

std::string Access::key_of(const HttpHead& head) {
  constexpr std::string_view kScheme = "Bearer ";
  const std::string* authorization = head.header("Authorization");
  if (authorization != nullptr && equal_without_case(authorization->substr(0, kScheme.size()), kScheme)) {
    return authorization->substr(kScheme.size());
  }
  const std::string* key = head.header("X-Api-Key");
  return key != nullptr ? *key : std::string();
}

void Access::check_key(const HttpHead& head) const {
  if (rules_.keys.empty() || rules_.keys.has(key_of(head))) return;
  throw HttpProblem(401, "authentication_error", "invalid_api_key",
                    "send a key of this server as Authorization: Bearer KEY");
}

void Access::check_content_type(const HttpHead& head) {
  const std::string* type = head.header("Content-Type");
  const std::string name = type == nullptr ? "" : type->substr(0, type->find(';'));
  const size_t end = name.find_last_not_of(' ');
  if (equal_without_case(name.substr(0, end + 1), "application/json")) return;
  throw bad_request(415, "content_type", "send JSON, with Content-Type: application/json");
}

HttpHeaders Access::cors_headers(const HttpHead& head) const {
  const std::string* origin = head.header("Origin");
  if (origin == nullptr || !is_listed_origin(*origin) || !std::ranges::all_of(*origin, is_plain)) return {};
  return {{"Access-Control-Allow-Origin", *origin},
          {"Access-Control-Expose-Headers", "x-request-id, Retry-After"},
          {"Vary", "Origin"}};
}

HttpResponse Access::preflight(const HttpHead& head) const {
  HttpResponse response;
  response.status = 204;
  response.content_type.clear();
  response.headers = {{"Access-Control-Allow-Methods", "GET, POST"}, {"Access-Control-Max-Age", "600"}};
  const std::string* wanted = head.header("Access-Control-Request-Headers");
  if (wanted != nullptr && std::ranges::all_of(*wanted, [](char c) { return is_plain(c) || c == ' '; })) {
    response.headers.emplace_back("Access-Control-Allow-Headers", *wanted);
  }
  return response;
}

}  // namespace fovea
