// When an answer is right. Five rules, as the record says; none of them depends on the locale.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

enum class MatchRule {
  // The bytes are equal.
  exact,
  // Equal after normalized_answer().
  normalized,
  // Equal letters, see choice_letter().
  choice,
  // Equal decimal values of the last number, see last_number().
  number,
  // The normalized answer contains the normalized expected text.
  substring,
};

const char* name_of(MatchRule rule);
// Throws Error(invalid_argument) for any other name; "normalised" is understood too.
MatchRule parse_match_rule(std::string_view name);

// Unicode NFC, A-Z in lower case, every run of white space one space, and neither white space nor punctuation
// at the ends: . , ; : ! ? " ' ` * _ ( ) [ ] { } and the typographic quotes, the ellipsis and their CJK
// forms. Signs and units (- + % $ / #) and a point before a digit stay: they carry meaning.
std::string normalized_answer(std::string_view text);

// The first stand-alone capital letter A-Z; if there is none, the first stand-alone small one, as a capital.
// Stand-alone: no letter, digit, underscore or apostrophe touches it. The pronoun "I" and the article "a"
// (small) before another word do not count.
std::optional<char> choice_letter(std::string_view text);

// The last number, as a canonical decimal: no sign for zero, no leading zeros, no zeros at the end of a
// fraction. Understood: a sign that does not touch a word (3-4 is 3 and 4), thousands in groups of three
// ("1,234,567.8"), a fraction (".5"), an exponent ("1.2e3"). The last one, because models write "7 + 5 = 12".
std::optional<std::string> last_number(std::string_view text);

// Whether `answer` is right. An answer of nothing but white space is always wrong.
bool is_right(std::string_view answer, const std::vector<std::string>& expected, MatchRule rule);

// Throws Error(invalid_argument) when the rule could never accept an answer because of `expected` itself
// (empty; without a letter; without a number).
void check_expected(const std::string& expected, MatchRule rule);

}  // namespace fovea
