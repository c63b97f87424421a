// How byte-level vocabularies spell bytes: each of the 256 bytes is one printable character (GPT-2's table).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fovea {

// The character that stands for a byte: itself if it is printable Latin-1, else U+0100 and up in order.
char32_t spelling_of_byte(uint8_t byte);

// The bytes a vocabulary entry stands for. An entry with any character outside the table is its own UTF-8
// text, as in the reference's ByteLevel decoder. Requires: well-formed UTF-8.
std::string bytes_of_spelling(std::string_view spelling);

}  // namespace fovea
