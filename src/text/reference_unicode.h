// The Unicode versions the reference knows (tokenizers 0.22 and 0.23: Unicode 16 in its regular expressions,
// 9 in its NFC), so that text in newer characters is cut the same whatever version PCRE2 and utf8proc of this
// machine know.
#pragma once

#include <string>
#include <string_view>

namespace fovea {

// A character that combines or decomposes in a later Unicode only: for the reference's NFC it is an ordinary
// one.
bool is_inert_in_reference_nfc(char32_t code_point);

// A copy of the same length for matching, in which characters whose class may differ between the reference
// and PCRE2 (Unicode 14 and later) are replaced by others of the reference's class: letter, number, neither.
std::string with_reference_classes(std::string_view text);

}  // namespace fovea
