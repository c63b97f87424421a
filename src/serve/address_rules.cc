#include "serve/address_rules.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace fovea {
namespace {

struct Block {
  std::array<uint8_t, 16> begin;
  int bits;
};

bool is_within(std::span<const uint8_t> address, const Block& block) {
  for (int bit = 0; bit < block.bits; bit += 8) {
    const int left = std::min(block.bits - bit, 8);
    const auto mask = static_cast<uint8_t>(0xff << (8 - left));
    const auto byte = static_cast<size_t>(bit / 8);
    if (((address[byte] ^ block.begin[byte]) & mask) != 0) return false;
  }
  return true;
}

// https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast.
constexpr Block kIpv4[] = {
    {{0}, 8},
    {{10}, 8},
    {{100, 64}, 10},
    {{127}, 8},
    {{169, 254}, 16},
    {{172, 16}, 12},
    {{192, 0, 0}, 24},
    {{192, 0, 2}, 24},
    {{192, 88, 99}, 24},
    {{192, 168}, 16},
    {{198, 18}, 15},
    {{198, 51, 100}, 24},
    {{203, 0, 113}, 24},
    {{224}, 4},
    {{240}, 4},
};
// Of IPv6 only 2000::/3 is given to hosts; within it these are special: the protocol's own assignments (with
// Teredo), documents, 6to4, and documents again.
constexpr Block kGlobal = {{0x20}, 3};
constexpr Block kIpv6[] = {
    {{0x20, 0x01, 0x00}, 23}, {{0x20, 0x01, 0x0d, 0xb8}, 32}, {{0x20, 0x02}, 16}, {{0x3f, 0xff, 0x00}, 20}};

std::optional<std::vector<uint8_t>> bytes_of(const std::string& text) {
  std::vector<uint8_t> bytes(4);
  if (inet_pton(AF_INET, text.c_str(), bytes.data()) == 1) return bytes;
  bytes.resize(16);
  if (inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1) return bytes;
  return std::nullopt;
}

}  // namespace

bool is_public_address(std::span<const uint8_t> address) {
  const auto holds_it = [&](const Block& block) { return is_within(address, block); };
  if (address.size() == 4) return std::ranges::none_of(kIpv4, holds_it);
  return address.size() == 16 && is_within(address, kGlobal) && std::ranges::none_of(kIpv6, holds_it);
}

bool is_public_address(const std::string& text) {
  const auto bytes = bytes_of(text);
  return bytes && is_public_address(*bytes);
}

bool is_address(const std::string& text) { return bytes_of(text).has_value(); }

}  // namespace fovea
