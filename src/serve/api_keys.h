// The keys that clients must know, and what keeps apart what they share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

class ApiKeys {
 public:
  ApiKeys() = default;
  // A key on each line; blank lines and those that begin with "#" are none. Throws Error(invalid_argument)
  // when there is none, or one that no header could hold.
  static ApiKeys parse(std::string_view text);

  bool empty() const { return digests_.empty(); }
  // Whether it is one of them. The time it takes tells nothing of which bytes are right.
  bool has(std::string_view key) const;

 private:
  std::vector<std::array<uint8_t, 32>> digests_;  // SHA-256
};

// Numbers for the parts of a cache: of a key and the salt that a request states. Others cannot be guessed,
// for they hang on a secret of this process. Throws Error(io) when the system gives no random numbers.
class CacheSpaces {
 public:
  CacheSpaces();
  uint64_t of(std::string_view key, std::string_view salt) const;

 private:
  std::array<uint8_t, 32> secret_;
};

// Random bytes as hexadecimal digits, for the names of requests.
std::string random_name();
uint64_t random_seed();

}  // namespace fovea
