// The address of a picture or video on the network, and which of them are allowed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// https://host[:port]/target and nothing else.
struct MediaAddress {
  std::string host;  // a name or an IPv4 address, in small letters
  uint16_t port = 443;
  std::string target;  // path and query, at least "/"; printable ASCII, no spaces
};

inline constexpr size_t kLongestMediaAddress = 8192;

// Throws FieldError(invalid_argument | unsupported) at `field` for another scheme, a user's name, an address
// in brackets, characters that belong escaped, or one that is too long. What is behind "#" is left out.
MediaAddress parse_media_address(std::string_view url, const std::string& field);

// Whether a list of "host" and "host:port" names it; a host alone means port 443. Names are compared whole.
bool is_allowed(const MediaAddress& address, const std::vector<std::string>& domains);

}  // namespace fovea
