// UTF-8 that may be malformed, read as Python's bytes.decode("utf-8", "replace") reads it: every maximal part
// of an ill-formed sequence becomes one U+FFFD (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal
// Subparts").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fovea {

// What stands at the start of a text.
struct Utf8Step {
  enum class Kind { character, malformed, incomplete };  // incomplete: well-formed so far, but the text ends
  Kind kind;
  size_t length;  // bytes it takes; at least 1
};

// Requires: `text` is not empty.
Utf8Step next_utf8(std::string_view text);

// The text with malformed parts replaced by U+FFFD; always well-formed UTF-8.
std::string replace_malformed_utf8(std::string_view text);

// Bytes at the end (0 to 3) that later bytes may still complete to a character.
size_t incomplete_utf8_tail(std::string_view text);

// Appends one code point. Requires: a Unicode scalar value.
void append_utf8(std::string& text, char32_t code_point);

// The code point at the start. Requires: well-formed UTF-8, not empty. `length` receives its bytes.
char32_t decode_utf8(std::string_view text, size_t& length);

}  // namespace fovea
