// Gets a picture or video from the network for somebody who is not trusted.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "api/media_address.h"

namespace fovea {

struct FetchRules {
  int64_t bytes = int64_t{32} << 20;
  double seconds = 15;  // for all of it
  // Which addresses may be connected to. Tests let this machine in.
  std::function<bool(std::span<const uint8_t>)> admits;  // empty: is_public_address
  std::string certificates;                              // a PEM file in place of the system's
};

// What an https address gives, whole. The name is looked up once; if any of its addresses is not admitted,
// none is connected to. The certificate must be valid for the name; redirects are not followed, nothing is
// unpacked, no proxy is asked. Blocks for at most `seconds` and the time of the look-up. Throws FieldError at
// `field`, with words that tell nothing of what was found elsewhere.
std::string fetch_https(const MediaAddress& address, const FetchRules& rules, const std::string& field);

}  // namespace fovea
