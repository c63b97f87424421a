#include "grammar/pattern.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/printable.h"
#include "text/utf8.h"

namespace fovea {

namespace {

constexpr int kDeepestGroups = 100;
constexpr int32_t kMostRepetitions = 10'000;
constexpr int32_t kEndless = -1;

const CodePoints kDigits = {{'0', '9'}};
const CodePoints kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CodePoints kSpace = {{0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680},
                           {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                           {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CodePoints kLineEnds = {{0x0A, 0x0A}, {0x0D, 0x0D}, {0x2028, 0x2029}};
const CodePoints kAll = {{0, kLastCodePoint}};

struct Expression {
  enum class Kind { characters, sequence, choice, repeat };
  Kind kind = Kind::sequence;
  CodePoints characters;
  std::vector<Expression> parts;
  int32_t least = 0, most = 0;  // of a repeat
};

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {
    for (std::string_view rest = pattern; !rest.empty();) {
      size_t length = 0;
      if (next_utf8(rest).kind != Utf8Step::Kind::character) refuse("is not UTF-8");
      text_.push_back(decode_utf8(rest, length));
      rest.remove_prefix(length);
    }
  }

  // Outermost alternatives, each with what may stand before and behind it.
  Expression whole() {
    Expression choice{Expression::Kind::choice, {}, {}, 0, 0};
    do {
      const bool begins = take('^');
      Expression sequence = this->sequence();
      const bool ends = take('$');
      if (!begins) sequence.parts.insert(sequence.parts.begin(), anything());
      if (!ends) sequence.parts.push_back(anything());
      choice.parts.push_back(std::move(sequence));
    } while (take('|'));
    if (at_ < text_.size()) {
      if (text_[at_] == ')') refuse("has a ) without (");
      not_supported("^ or $ inside it");
    }
    return choice;
  }

 private:
  static Expression anything() {
    return {Expression::Kind::repeat, {}, {{Expression::Kind::characters, kAll, {}, 0, 0}}, 0, kEndless};
  }

  [[noreturn]] void refuse(const std::string& words) const {
    throw Error(ErrorKind::invalid_argument, fmt::format("the pattern \"{}\" {}", shown(), words),
                "write a regular expression as JSON Schema has them");
  }
  [[noreturn]] void not_supported(const std::string& what) const {
    throw Error(ErrorKind::unsupported,
                fmt::format("the pattern \"{}\" has {}, which is not supported", shown(), what),
                "write it with characters, classes, groups, |, *, +, ?, {m,n}, ^ and $ alone");
  }
  std::string shown() const {
    constexpr size_t kLongest = 200;
    return printable(std::string(pattern_.substr(0, kLongest)));
  }

  bool done() const { return at_ == text_.size(); }
  bool sees(char32_t c) const { return !done() && text_[at_] == c; }
  bool take(char32_t c) {
    if (!sees(c)) return false;
    ++at_;
    return true;
  }
  char32_t next() {
    if (done()) refuse("ends too early");
    return text_[at_++];
  }

  Expression alternatives() {
    Expression choice{Expression::Kind::choice, {}, {}, 0, 0};
    do choice.parts.push_back(sequence());
    while (take('|'));
    return choice;
  }

  Expression sequence() {
    Expression sequence;
    while (!done() && !sees('|') && !sees(')') && !sees('$') && !sees('^')) {
      sequence.parts.push_back(repeated(atom()));
    }
    return sequence;
  }

  Expression atom() {
    const char32_t c = next();
    if (c == '(') return group();
    if (c == '[') return of(class_of());
    if (c == '.') return of(complement(kLineEnds));
    if (c == '\\') return of(escape(false));
    if (c == '*' || c == '+' || c == '?') refuse("repeats nothing");
    if (c == '{' || c == '}' || c == ']') refuse("has a bracket that opens or closes nothing");
    return of({{c, c}});
  }

  static Expression of(CodePoints characters) {
    return {Expression::Kind::characters, std::move(characters), {}, 0, 0};
  }

  Expression group() {
    if (++depth_ > kDeepestGroups)
      refuse(fmt::format("has more than {} groups in each other", kDeepestGroups));
    if (take('?')) {
      const char32_t kind = next();
      if (kind == '<' && !sees('=') && !sees('!')) {
        while (next() != '>') {
        }
      } else if (kind == '=' || kind == '!' || kind == '<') {
        not_supported("a lookahead or lookbehind");
      } else if (kind != ':') {
        not_supported("a group that begins with (?");
      }
    }
    Expression inside = alternatives();
    if (sees('^') || sees('$')) not_supported("^ or $ inside it");
    if (!take(')')) refuse("has a ( without )");
    --depth_;
    return inside;
  }

  Expression repeated(Expression one) {
    int32_t least = 0, most = 0;
    if (take('*')) {
      most = kEndless;
    } else if (take('+')) {
      least = 1;
      most = kEndless;
    } else if (take('?')) {
      most = 1;
    } else if (take('{')) {
      least = most = number();
      if (take(',')) most = sees('}') ? kEndless : number();
      if (!take('}')) refuse("has a { that is no {m}, {m,} or {m,n}");
      if (most != kEndless && most < least) refuse("has a {m,n} with n below m");
    } else {
      return one;
    }
    take('?');  // lazy: the same strings
    if (sees('*') || sees('+') || sees('?') || sees('{')) not_supported("a repetition of a repetition");
    return {Expression::Kind::repeat, {}, {std::move(one)}, least, most};
  }

  int32_t number() {
    int32_t value = 0;
    if (done() || text_[at_] < '0' || text_[at_] > '9') refuse("has a { that is no {m}, {m,} or {m,n}");
    while (!done() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = value * 10 + static_cast<int32_t>(next() - '0');
      if (value > kMostRepetitions) refuse(fmt::format("repeats more than {} times", kMostRepetitions));
    }
    return value;
  }

  char32_t hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char32_t c = next();
      if (c >= '0' && c <= '9') {
        value = value * 16 + (c - '0');
      } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
        value = value * 16 + ((c | 0x20) - 'a' + 10);
      } else {
        refuse("has an \\x or \\u without its digits");
      }
    }
    return value;
  }

  CodePoints escape(bool in_class) {
    const char32_t c = next();
    const auto one = [](char32_t code_point) { return CodePoints{{code_point, code_point}}; };
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return complement(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return complement(kWord);
      case 's':
        return kSpace;
      case 'S':
        return complement(kSpace);
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'v':
        return one('\v');
      case 'f':
        return one('\f');
      case 'r':
        return one('\r');
      case '0':
        if (!done() && text_[at_] >= '0' && text_[at_] <= '9') not_supported("an octal escape");
        return one(0);
      case 'x':
        return one(hex(2));
      case 'u': {
        if (sees('{')) not_supported("\\u{...}");
        const char32_t code_point = hex(4);
        if (code_point >= 0xD800 && code_point <= 0xDFFF) not_supported("a surrogate");
        return one(code_point);
      }
      default:
        break;
    }
    if (in_class && c == 'b') return one('\b');
    const bool letter_or_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter_or_digit) {
      std::string name = "\\";
      append_utf8(name, c);
      not_supported(name);
    }
    return one(c);
  }

  CodePoints class_of() {
    const bool negated = take('^');
    CodePoints ranges;
    while (!take(']')) {
      const CodePoints low = class_item();
      const bool range = low.size() == 1 && low[0].first == low[0].second && sees('-') &&
                         at_ + 1 < text_.size() && text_[at_ + 1] != ']';
      if (!range) {
        ranges.insert(ranges.end(), low.begin(), low.end());
        continue;
      }
      take('-');
      const CodePoints high = class_item();
      if (high.size() != 1 || high[0].first != high[0].second || high[0].first < low[0].first) {
        refuse("has a range that ends before it begins");
      }
      ranges.emplace_back(low[0].first, high[0].first);
    }
    return negated ? complement(std::move(ranges)) : ranges;
  }

  CodePoints class_item() {
    const char32_t c = next();
    if (c == '\\') return escape(true);
    return {{c, c}};
  }

  std::string_view pattern_;
  std::u32string text_;
  size_t at_ = 0;
  int depth_ = 0;
};

int32_t emit(ByteNfa& nfa, int32_t from, const Expression& expression);

int32_t emit_repeat(ByteNfa& nfa, int32_t from, const Expression& repeat) {
  const Expression& one = repeat.parts.front();
  for (int32_t i = 0; i < repeat.least; ++i) from = emit(nfa, from, one);
  if (repeat.most == kEndless) {
    const int32_t loop = nfa.add_state();
    nfa.on_nothing(from, loop);
    nfa.on_nothing(emit(nfa, loop, one), loop);
    return loop;
  }
  const int32_t end = nfa.add_state();
  nfa.on_nothing(from, end);
  for (int32_t i = repeat.least; i < repeat.most; ++i) {
    from = emit(nfa, from, one);
    nfa.on_nothing(from, end);
  }
  return end;
}

int32_t emit(ByteNfa& nfa, int32_t from, const Expression& expression) {
  switch (expression.kind) {
    case Expression::Kind::characters: {
      const int32_t to = nfa.add_state();
      nfa.on_character(from, expression.characters, to);
      return to;
    }
    case Expression::Kind::sequence: {
      // A state of its own even where it is empty, or a loop around it would have no end.
      const int32_t begin = nfa.add_state();
      nfa.on_nothing(from, begin);
      int32_t at = begin;
      for (const Expression& part : expression.parts) at = emit(nfa, at, part);
      return at;
    }
    case Expression::Kind::choice: {
      const int32_t end = nfa.add_state();
      for (const Expression& part : expression.parts) nfa.on_nothing(emit(nfa, from, part), end);
      return end;
    }
    case Expression::Kind::repeat:
      return emit_repeat(nfa, from, expression);
  }
  return from;
}

}  // namespace

int32_t add_pattern(ByteNfa& nfa, int32_t from, std::string_view pattern) {
  return emit(nfa, from, Parser(pattern).whole());
}

}  // namespace fovea
