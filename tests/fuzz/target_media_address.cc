// The address of a picture on the network: what was read holds nothing that could end a line or a header, and
// reads the same when it is written again.
#include "api/media_address.h"
#include "target.h"

FOVEA_FUZZ_TARGET(media_address) {
  const fovea::MediaAddress address = fovea::parse_media_address(bytes, "field");
  using fovea::fuzz::require;
  require(!address.host.empty() && address.host.size() <= 253 && address.port != 0,
          "host and port are there");
  for (const char c : address.host + address.target)
    require(c > ' ' && c < '\x7f', "all of it is printable ASCII");
  require(address.host.find_first_of("/:@?#[]\\") == std::string::npos, "a host is a name alone");
  require(address.target.starts_with('/'), "a target begins at the root");
  const std::string again = "https://" + address.host + ":" + std::to_string(address.port) + address.target;
  if (again.size() > fovea::kLongestMediaAddress) return;
  const fovea::MediaAddress same = fovea::parse_media_address(again, "field");
  require(same.host == address.host && same.port == address.port && same.target == address.target,
          "it reads the same when it is written again");
}
