#include "base/printable.h"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

namespace fovea {
namespace {

// Bytes of the UTF-8 character at the head of `text`; 0 when there is none. Surrogates and overlong forms are
// not looked for: what matters is that no byte passes that a terminal takes for a command.
size_t character_bytes(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  const size_t count = lead < 0x80                   ? 1
                       : lead >= 0xc2 && lead < 0xe0 ? 2
                       : lead >= 0xe0 && lead < 0xf0 ? 3
                       : lead >= 0xf0 && lead < 0xf5 ? 4
                                                     : 0;
  if (count == 0 || text.size() < count) return 0;
  for (size_t i = 1; i < count; ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) return 0;
  }
  return count;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const size_t count = character_bytes(text);
    const auto first = static_cast<uint8_t>(text[0]);
    const bool control = (first < 0x20 && first != '\n' && first != '\t') || first == 0x7f;
    if (count == 0 || control) {
      shown += fmt::format("\\x{:02x}", first);
    } else if (count == 2 && first == 0xc2 && static_cast<uint8_t>(text[1]) < 0xa0) {
      shown += fmt::format("\\u{:04x}", static_cast<uint8_t>(text[1]));
    } else {
      shown += text.substr(0, count);
    }
    text.remove_prefix(count == 0 ? 1 : count);
  }
  return shown;
}

}  // namespace fovea
