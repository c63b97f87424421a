#include "api/media_address.h"

#include <algorithm>
#include <charconv>

#include "base/field_error.h"

namespace fovea {
namespace {

constexpr std::string_view kScheme = "https://";
constexpr const char* kRemedy = "send an https:// address, or the picture itself as a data:...;base64, URL";

[[noreturn]] void refuse(const std::string& field, const char* words) {
  throw FieldError(ErrorKind::invalid_argument, field, words, kRemedy);
}

char small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string small(std::string_view text) {
  std::string smalls(text);
  std::ranges::transform(smalls, smalls.begin(), [](char c) { return small(c); });
  return smalls;
}

bool is_of_names(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

std::string host_of(std::string_view text, const std::string& field) {
  constexpr size_t kLongestName = 253;
  std::string host = small(text);
  if (!host.empty() && host.back() == '.') host.pop_back();
  if (host.empty() || host.size() > kLongestName || !std::ranges::all_of(host, is_of_names)) {
    refuse(field, "names no host that could be looked up");
  }
  return host;
}

uint16_t port_of(std::string_view text, const std::string& field) {
  uint16_t port = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (failure != std::errc() || end != text.data() + text.size() || port == 0) {
    refuse(field, "has a port that is no number from 1 to 65535");
  }
  return port;
}

}  // namespace

MediaAddress parse_media_address(std::string_view url, const std::string& field) {
  if (url.size() > kLongestMediaAddress) refuse(field, "is too long for an address");
  if (small(url.substr(0, kScheme.size())) != kScheme) {
    throw FieldError(ErrorKind::unsupported, field, "is no https:// address", kRemedy);
  }
  url.remove_prefix(kScheme.size());
  url = url.substr(0, url.find('#'));
  if (!std::ranges::all_of(url, [](char c) { return c > ' ' && c < '\x7f' && c != '\\'; })) {
    refuse(field, "holds characters that an address has escaped");
  }
  const size_t end = std::min(url.find_first_of("/?"), url.size());
  const std::string_view authority = url.substr(0, end), rest = url.substr(end);
  if (authority.find('@') != authority.npos) refuse(field, "holds a user's name");
  MediaAddress address;
  const size_t colon = authority.find(':');
  address.host = host_of(authority.substr(0, colon), field);
  if (colon != authority.npos) address.port = port_of(authority.substr(colon + 1), field);
  address.target = fmt::format("{}{}", rest.starts_with('/') ? "" : "/", rest);
  return address;
}

bool is_allowed(const MediaAddress& address, const std::vector<std::string>& domains) {
  const std::string with_port = fmt::format("{}:{}", address.host, address.port);
  return std::ranges::any_of(domains, [&](const std::string& domain) {
    const std::string allowed = small(domain);
    return allowed == with_port || (allowed == address.host && address.port == 443);
  });
}

}  // namespace fovea
