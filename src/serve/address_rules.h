// Which addresses of the internet a server may be sent to by those who ask it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace fovea {

// Whether an IPv4 (4 bytes) or IPv6 address (16 bytes) is of a host on the open internet: not this machine,
// its network or its neighbours, not shared by a provider's customers, not an IPv4 address in another dress,
// not for several hosts, for documents or reserved (IANA's registries of special-purpose addresses).
bool is_public_address(std::span<const uint8_t> address);
// Of a text such as "127.0.0.1" or "::1"; false of what is none.
bool is_public_address(const std::string& text);

// Whether a text is an IPv4 or IPv6 address, the latter without brackets.
bool is_address(const std::string& text);

}  // namespace fovea
