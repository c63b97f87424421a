// FNV-1a, 64 bits (Fowler, Noll and Vo): tells texts apart, the same on every machine; not against malice.
#pragma once

#include <cstdint>
#include <string_view>

namespace fovea {

inline constexpr uint64_t kFnvBasis = 0xcbf29ce484222325u;

// Of the text behind what `hash` stands for.
constexpr uint64_t fnv1a(std::string_view text, uint64_t hash = kFnvBasis) {
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace fovea
