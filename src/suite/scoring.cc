#include "suite/scoring.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/nfc.h"
#include "text/utf8.h"

namespace fovea {

namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
// Bytes of a multi-byte character count as letters: "é" touches a word, too.
bool is_word(char c) { return is_digit(c) || is_upper(c) || is_lower(c) || c == '_' || (c & 0x80) != 0; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

// Quotes, brackets and sentence marks beyond ASCII, in UTF-8.
constexpr std::array<std::string_view, 18> kWidePunctuation = {
    "“", "”", "‘", "’", "„", "«", "»", "…", "。", "、", "，", "！", "？", "：", "；", "（", "）", "·"};
constexpr std::string_view kPunctuation = ".,;:!?\"'`*_()[]{}";

// Bytes of white space or punctuation at the start (end) of the text; 0: none.
size_t outer_at_start(std::string_view text) {
  if (text.empty()) return 0;
  if (text.size() > 1 && text[0] == '.' && is_digit(text[1])) return 0;
  if (is_space(text[0]) || kPunctuation.find(text[0]) != std::string_view::npos) return 1;
  for (const std::string_view mark : kWidePunctuation) {
    if (text.starts_with(mark)) return mark.size();
  }
  return 0;
}
size_t outer_at_end(std::string_view text) {
  if (text.empty()) return 0;
  if (is_space(text.back()) || kPunctuation.find(text.back()) != std::string_view::npos) return 1;
  for (const std::string_view mark : kWidePunctuation) {
    if (text.ends_with(mark)) return mark.size();
  }
  return 0;
}

bool stands_alone(std::string_view text, size_t at) {
  const auto touches = [&](char c) { return is_word(c) || c == '\''; };
  return (at == 0 || !touches(text[at - 1])) && (at + 1 == text.size() || !touches(text[at + 1]));
}

bool before_a_word(std::string_view text, size_t at) {
  return at + 2 < text.size() && is_space(text[at + 1]) && is_word(text[at + 2]);
}

// The parts of a number found at `at`; length 0 when there is none.
struct Number {
  size_t length = 0;
  std::string digits;  // integer part and fraction together
  int64_t exponent = 0;
};

size_t digits_at(std::string_view text, size_t at) {
  size_t end = at;
  while (end < text.size() && is_digit(text[end])) ++end;
  return end - at;
}

// ",ddd" groups behind one to three digits; each group is exactly three digits.
void take_thousands(std::string_view text, size_t& at, std::string& digits) {
  while (at < text.size() && text[at] == ',' && digits_at(text, at + 1) == 3) {
    digits.append(text.substr(at + 1, 3));
    at += 4;
  }
}

void take_exponent(std::string_view text, size_t& at, int64_t& exponent) {
  if (at >= text.size() || (text[at] != 'e' && text[at] != 'E')) return;
  size_t from = at + 1;
  const bool negative = from < text.size() && text[from] == '-';
  if (from < text.size() && (text[from] == '-' || text[from] == '+')) ++from;
  const size_t count = digits_at(text, from);
  // More than three digits is no number that an answer holds, and the value would need a bound of its own.
  if (count == 0 || count > 3 || (from + count < text.size() && is_word(text[from + count]))) return;
  int64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value * 10 + (text[from + i] - '0');
  exponent += negative ? -value : value;
  at = from + count;
}

Number number_at(std::string_view text, size_t start) {
  Number number;
  size_t at = start;
  const size_t whole = digits_at(text, at);
  number.digits = text.substr(at, whole);
  at += whole;
  if (whole >= 1 && whole <= 3) take_thousands(text, at, number.digits);
  if (at < text.size() && text[at] == '.') {
    const size_t fraction = digits_at(text, at + 1);
    if (fraction > 0) {
      number.digits.append(text.substr(at + 1, fraction));
      number.exponent = -static_cast<int64_t>(fraction);
      at += 1 + fraction;
    }
  }
  if (number.digits.empty()) return {};
  take_exponent(text, at, number.exponent);
  number.length = at - start;
  return number;
}

// digits * 10^exponent as plain text: "-12.5".
std::string canonical(const Number& number, bool negative) {
  std::string digits = number.digits;
  int64_t exponent = number.exponent;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.empty()) return "0";
  while (digits.back() == '0') {
    digits.pop_back();
    ++exponent;
  }
  const char* sign = negative ? "-" : "";
  if (exponent >= 0)
    return fmt::format("{}{}{}", sign, digits, std::string(static_cast<size_t>(exponent), '0'));
  const auto places = static_cast<size_t>(-exponent);
  if (digits.size() <= places) return fmt::format("{}0.{:0>{}}", sign, digits, places);
  const std::string_view all = digits;
  return fmt::format("{}{}.{}", sign, all.substr(0, all.size() - places), all.substr(all.size() - places));
}

// Whether a minus (ASCII or U+2212) stands directly before `at` and touches no word on its left.
bool minus_before(std::string_view text, size_t at) {
  constexpr std::string_view kWideMinus = "−";
  const std::string_view left = text.substr(0, at);
  const size_t length = left.ends_with('-') ? 1 : left.ends_with(kWideMinus) ? kWideMinus.size() : 0;
  return length > 0 && (left.size() == length || !is_word(left[left.size() - length - 1]));
}

bool matches(std::string_view answer, const std::string& expected, MatchRule rule) {
  switch (rule) {
    case MatchRule::exact:
      return answer == expected;
    case MatchRule::normalized: {
      const std::string wanted = normalized_answer(expected);
      if (wanted.empty()) return trimmed(answer) == trimmed(expected);  // punctuation alone
      return normalized_answer(answer) == wanted;
    }
    case MatchRule::choice:
      return choice_letter(answer) == choice_letter(expected) && choice_letter(answer);
    case MatchRule::number:
      return last_number(answer) == last_number(expected) && last_number(answer);
    case MatchRule::substring: {
      const std::string wanted = normalized_answer(expected);
      if (wanted.empty()) return answer.find(trimmed(expected)) != std::string_view::npos;
      return normalized_answer(answer).find(wanted) != std::string::npos;
    }
  }
  return false;
}

}  // namespace

const char* name_of(MatchRule rule) {
  switch (rule) {
    case MatchRule::exact:
      return "exact";
    case MatchRule::normalized:
      return "normalized";
    case MatchRule::choice:
      return "choice";
    case MatchRule::number:
      return "number";
    case MatchRule::substring:
      return "substring";
  }
  return "unknown";
}

MatchRule parse_match_rule(std::string_view name) {
  if (name == "normalised") return MatchRule::normalized;
  for (const MatchRule rule : {MatchRule::exact, MatchRule::normalized, MatchRule::choice, MatchRule::number,
                               MatchRule::substring}) {
    if (name == name_of(rule)) return rule;
  }
  throw Error(ErrorKind::invalid_argument, fmt::format("unknown match \"{}\"", name.substr(0, 100)),
              "write exact, normalized, choice, number or substring");
}

std::string normalized_answer(std::string_view text) {
  std::string composed = nfc(replace_malformed_utf8(text)), spaced;
  for (char c : composed) {
    if (is_upper(c)) c = static_cast<char>(c - 'A' + 'a');
    if (is_space(c)) {
      if (!spaced.empty() && spaced.back() != ' ') spaced += ' ';
    } else {
      spaced += c;
    }
  }
  std::string_view rest = spaced;
  while (const size_t length = outer_at_start(rest)) rest.remove_prefix(length);
  while (const size_t length = outer_at_end(rest)) rest.remove_suffix(length);
  return std::string(rest);
}

std::optional<char> choice_letter(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_upper(text[i]) || !stands_alone(text, i)) continue;
    if (text[i] == 'I' && before_a_word(text, i)) continue;
    return text[i];
  }
  for (size_t i = 0; i < text.size(); ++i) {
    if (!is_lower(text[i]) || !stands_alone(text, i)) continue;
    if ((text[i] == 'a' || text[i] == 'i') && before_a_word(text, i)) continue;
    return static_cast<char>(text[i] - 'a' + 'A');
  }
  return std::nullopt;
}

std::optional<std::string> last_number(std::string_view text) {
  std::optional<std::string> last;
  for (size_t at = 0; at < text.size();) {
    const Number number = number_at(text, at);
    if (number.length == 0) {
      ++at;
      continue;
    }
    last = canonical(number, minus_before(text, at));
    at += number.length;
  }
  return last;
}

bool is_right(std::string_view answer, const std::vector<std::string>& expected, MatchRule rule) {
  if (trimmed(answer).empty()) return false;
  return std::any_of(expected.begin(), expected.end(),
                     [&](const std::string& one) { return matches(answer, one, rule); });
}

void check_expected(const std::string& expected, MatchRule rule) {
  const auto refuse = [&](const char* what, const char* remedy) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("answer \"{}\" {}", std::string_view(expected).substr(0, 100), what), remedy);
  };
  if (trimmed(expected).empty()) refuse("is empty", "give the text that a right answer has");
  if (rule == MatchRule::choice && !choice_letter(expected)) {
    refuse("holds no stand-alone letter, but match is \"choice\"", "give the letter, say \"B\"");
  }
  if (rule == MatchRule::number && !last_number(expected)) {
    refuse("holds no number, but match is \"number\"", "give the number, say \"7\"");
  }
}

}  // namespace fovea
