#include "serve/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "base/error.h"

namespace fovea {
namespace {

using Digest256 = std::array<uint8_t, 32>;

Digest256 sha256(std::string_view text) {
  Digest256 digest{};
  unsigned size = 0;
  FOVEA_CHECK(EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1 &&
              size == digest.size());
  return digest;
}

void fill_randomly(std::span<uint8_t> bytes) {
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1) return;
  throw Error(ErrorKind::io, "the system gives no random numbers", "check /dev/urandom");
}

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t first = line.find_first_not_of(kBlank);
  if (first == line.npos) return {};
  return line.substr(first, line.find_last_not_of(kBlank) - first + 1);
}

}  // namespace

ApiKeys ApiKeys::parse(std::string_view text) {
  ApiKeys keys;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view key = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (key.empty() || key.front() == '#') continue;
    for (const char c : key) {
      if (c > ' ' && c < '\x7f') continue;
      throw Error(ErrorKind::invalid_argument, "an API key holds a character that no header can",
                  "use letters, digits and punctuation of ASCII, one key a line");
    }
    keys.digests_.push_back(sha256(key));
  }
  if (keys.empty()) {
    throw Error(ErrorKind::invalid_argument, "there is no API key", "write one key on each line");
  }
  return keys;
}

bool ApiKeys::has(std::string_view key) const {
  const Digest256 digest = sha256(key);
  int equal = 0;
  for (const Digest256& known : digests_) {
    equal |= static_cast<int>(CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0);
  }
  return equal != 0;
}

CacheSpaces::CacheSpaces() { fill_randomly(secret_); }

uint64_t CacheSpaces::of(std::string_view key, std::string_view salt) const {
  std::string text(reinterpret_cast<const char*>(secret_.data()), secret_.size());
  text += std::to_string(key.size()) + ':';
  text.append(key).append(salt);
  const Digest256 digest = sha256(text);
  uint64_t number = 0;
  std::memcpy(&number, digest.data(), sizeof number);
  return number;
}

uint64_t random_seed() {
  std::array<uint8_t, 8> bytes{};
  fill_randomly(bytes);
  uint64_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

std::string random_name() { return fmt::format("{:016x}{:016x}", random_seed(), random_seed()); }

}  // namespace fovea
