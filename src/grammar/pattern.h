// The regular expressions of JSON Schema (ECMA-262) as far as they are regular:
//   literals, . , classes [...] and [^...] with ranges, \d \w \s \D \W \S, \t \n \v \f \r \0, \xHH, \uHHHH,
//   escaped punctuation, groups ( ) and (?: ) and (?<name> ), |, * + ? {m} {m,} {m,n} and their lazy forms,
//   ^ at the beginning and $ at the end of the pattern or of one of its outermost alternatives.
// Lookarounds, back references, \b, \B, \p{...}, \cX, surrogate pairs and anchors elsewhere are refused by
// name.
#pragma once

#include <string_view>

#include "grammar/byte_nfa.h"

namespace fovea {

// Adds the characters of a JSON string (without its quotes) that the pattern matches, which as JSON Schema
// has it may be found anywhere in the string unless it is anchored. Returns where they end. Throws
// Error(unsupported | invalid_argument | exhausted) quoting the pattern.
int32_t add_pattern(ByteNfa& nfa, int32_t from, std::string_view pattern);

}  // namespace fovea
