#include "grammar/json_rules.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "grammar/number_rules.h"
#include "text/utf8.h"

namespace fovea {

namespace {

const CodePoints kAnyCharacter = {{0, kLastCodePoint}};

// What may stand behind a backslash: a letter, or u and four digits; a surrogate only before its other half.
void add_escapes(Automaton& automaton, int32_t backslash, int32_t character) {
  const auto on_hex = [&](int32_t from, uint8_t least, uint8_t most, int32_t to) {
    const auto range = [&](uint8_t low, uint8_t high) {
      const int low_digit = std::max(least, low), high_digit = std::min(most, high);
      if (low_digit > high_digit) return;
      if (low < 10) {
        automaton.on_byte(from, static_cast<uint8_t>('0' + low_digit), static_cast<uint8_t>('0' + high_digit),
                          to);
        return;
      }
      for (const char first : {'A', 'a'}) {
        automaton.on_byte(from, static_cast<uint8_t>(first + low_digit - 10),
                          static_cast<uint8_t>(first + high_digit - 10), to);
      }
    };
    range(0, 9);
    range(10, 15);
  };
  for (const char letter : {'"', '\\', '/', 'b', 'f', 'n', 'r', 't'}) {
    automaton.on_byte(backslash, static_cast<uint8_t>(letter), static_cast<uint8_t>(letter), character);
  }
  const int32_t first = automaton.on_text(backslash, "u");
  const int32_t second = automaton.add_node(), third = automaton.add_node(), fourth = automaton.add_node();
  on_hex(second, 0, 15, third);
  on_hex(third, 0, 15, fourth);
  on_hex(fourth, 0, 15, character);
  on_hex(first, 0, 12, second);
  on_hex(first, 14, 15, second);
  const int32_t d = automaton.add_node(), high_third = automaton.add_node(),
                high_fourth = automaton.add_node(), other_half = automaton.add_node();
  on_hex(first, 13, 13, d);
  on_hex(d, 0, 7, third);
  on_hex(d, 8, 11, high_third);
  on_hex(high_third, 0, 15, high_fourth);
  on_hex(high_fourth, 0, 15, other_half);
  const int32_t low_first = automaton.on_text(other_half, "\\u");
  const int32_t low_d = automaton.add_node(), low_second = automaton.add_node();
  on_hex(low_first, 13, 13, low_d);
  on_hex(low_d, 12, 15, low_second);
  on_hex(low_second, 0, 15, fourth);
}

// UTF-8 as Unicode 15 has it (table 3-7), without control characters, quotes and backslashes.
void add_plain(Automaton& automaton, int32_t from, int32_t character) {
  const auto guard = EdgeGuard::below_most;
  automaton.on_byte(from, 0x20, 0x21, character, guard);
  automaton.on_byte(from, 0x23, 0x5B, character, guard);
  automaton.on_byte(from, 0x5D, 0x7F, character, guard);
  const int32_t one = automaton.add_node(), two = automaton.add_node(), three = automaton.add_node();
  automaton.on_byte(one, 0x80, 0xBF, character);
  automaton.on_byte(two, 0x80, 0xBF, one);
  automaton.on_byte(three, 0x80, 0xBF, two);
  const auto lead = [&](uint8_t low, uint8_t high, int32_t to) {
    automaton.on_byte(from, low, high, to, guard);
  };
  const auto special = [&](uint8_t byte, uint8_t low, uint8_t high, int32_t to) {
    const int32_t second = automaton.add_node();
    lead(byte, byte, second);
    automaton.on_byte(second, low, high, to);
  };
  lead(0xC2, 0xDF, one);
  special(0xE0, 0xA0, 0xBF, one);
  lead(0xE1, 0xEC, two);
  special(0xED, 0x80, 0x9F, one);
  lead(0xEE, 0xEF, two);
  special(0xF0, 0x90, 0xBF, two);
  lead(0xF1, 0xF3, three);
  special(0xF4, 0x80, 0x8F, two);
}

}  // namespace

std::string json_string(const std::string& utf8) { return nlohmann::json(utf8).dump(); }

int32_t JsonRules::once(const std::string& key, const std::function<int32_t()>& make) {
  if (const auto known = made_.find(key); known != made_.end()) return known->second;
  return made_[key] = make();
}

int32_t JsonRules::text(const std::string& bytes) {
  return once("text " + bytes, [&] {
    const int32_t start = automaton_.add_node(), end = automaton_.on_text(start, bytes.c_str());
    automaton_.node(end).final = true;
    return automaton_.add_rule(start);
  });
}

int32_t JsonRules::nothing() {
  return once("nothing", [&] { return automaton_.add_rule(automaton_.add_node()); });
}

int32_t JsonRules::whitespace() {
  return once("whitespace", [&] {
    const int32_t start = automaton_.add_node(true), space = automaton_.add_node(true);
    automaton_.on_byte(start, ' ', ' ', space);
    int32_t at = automaton_.add_node(true);
    automaton_.on_byte(start, '\n', '\n', at);
    for (int i = 0; i < kMostIndent; ++i) {
      const int32_t next = automaton_.add_node(true);
      automaton_.on_byte(at, ' ', ' ', next);
      at = next;
    }
    return automaton_.add_rule(start);
  });
}

int32_t JsonRules::integer() {
  return once("integer", [&] { return add_integer_rule(automaton_); });
}

int32_t JsonRules::number() {
  return once("number", [&] { return add_number_rule(automaton_); });
}

int32_t JsonRules::any_of(const std::vector<int32_t>& rules) {
  if (rules.empty()) return nothing();
  if (rules.size() == 1) return rules.front();
  const int32_t start = automaton_.add_node(), end = automaton_.add_node(true);
  for (const int32_t rule : rules) automaton_.on_call(start, rule, end);
  return automaton_.add_rule(start);
}

int32_t JsonRules::one_of_texts(const std::vector<std::string>& texts) {
  ByteNfa nfa;
  const int32_t start = nfa.add_state(), end = nfa.add_state();
  for (const std::string& one : texts) nfa.on_nothing(nfa.on_text(start, one), end);
  return nfa.add_rule_to(automaton_, start, end);
}

int32_t JsonRules::any_string() {
  return once("string", [&] { return make_string(0, AutomatonNode::kNoMost, false); });
}

int32_t JsonRules::string_of_length(int32_t least, int32_t most) {
  if (least == 0 && most == AutomatonNode::kNoMost) return any_string();
  if (least > most) return nothing();
  return once(fmt::format("string {} {}", least, most), [&] { return make_string(least, most, true); });
}

// The node between two characters counts; the first time it is arrived at by the opening quote, so counts are
// one more than characters.
int32_t JsonRules::make_string(int32_t least, int32_t most, bool counts) {
  const auto first = static_cast<int32_t>(automaton_.nodes());
  const int32_t start = automaton_.add_node(), between = automaton_.add_node(),
                end = automaton_.add_node(true);
  automaton_.on_byte(start, '"', '"', between);
  automaton_.on_byte(between, '"', '"', end, EdgeGuard::from_least);
  add_plain(automaton_, between, between);
  const int32_t backslash = automaton_.add_node();
  automaton_.on_byte(between, '\\', '\\', backslash, EdgeGuard::below_most);
  add_escapes(automaton_, backslash, between);
  automaton_.node(between).counts = counts;
  for (int32_t i = first; i < static_cast<int32_t>(automaton_.nodes()); ++i) {
    AutomatonNode& node = automaton_.node(i);
    if (counts) {
      node.least = least + 1;
      node.most = most == AutomatonNode::kNoMost ? most : most + 1;
    } else {
      for (ByteEdge& edge : node.bytes) edge.guard = EdgeGuard::open;
    }
  }
  return automaton_.add_rule(start);
}

int32_t JsonRules::behind_whitespace(int32_t from) {
  const int32_t to = automaton_.add_node();
  automaton_.on_call(from, whitespace(), to);
  return to;
}

int32_t JsonRules::member(const std::string& name, int32_t value) {
  const std::string text = json_string(name) + ':';
  return once(fmt::format("member {} {}", value, text), [&] {
    const int32_t start = automaton_.add_node(), end = automaton_.add_node(true);
    automaton_.on_call(behind_whitespace(automaton_.on_text(start, text.c_str())), value, end);
    return automaton_.add_rule(start);
  });
}

int32_t JsonRules::member_besides(std::span<const std::string> names, int32_t value) {
  int32_t name = any_string();
  if (!names.empty()) {
    ByteNfa nfa;
    const int32_t start = nfa.add_state(), other = nfa.add_state(), end = nfa.add_state();
    struct Place {
      std::map<char32_t, int32_t> next;
      bool is_name = false;
    };
    std::map<int32_t, Place> places;  // by state: what the name begins with
    const int32_t first = nfa.add_state();
    nfa.on_byte(start, '"', '"', first);
    places[first];
    for (const std::string& one : names) {
      int32_t at = first;
      for (std::string_view rest = one; !rest.empty();) {
        size_t length = 0;
        const char32_t c = decode_utf8(rest, length);
        rest.remove_prefix(length);
        const auto [next, is_new] = places[at].next.emplace(c, 0);
        if (is_new) next->second = nfa.add_state();
        at = next->second;
      }
      places[at].is_name = true;
    }
    for (const auto& [state, place] : places) {
      CodePoints known;
      for (const auto& [c, next] : place.next) {
        nfa.on_character(state, {{c, c}}, next);
        known.emplace_back(c, c);
      }
      nfa.on_character(state, complement(known), other);
      if (!place.is_name) nfa.on_byte(state, '"', '"', end);
    }
    nfa.on_character(other, kAnyCharacter, other);
    nfa.on_byte(other, '"', '"', end);
    name = nfa.add_rule_to(automaton_, start, end);
  }
  const int32_t start = automaton_.add_node(), behind = automaton_.add_node(),
                end = automaton_.add_node(true);
  automaton_.on_call(start, name, behind);
  automaton_.on_call(behind_whitespace(automaton_.on_text(behind, ":")), value, end);
  return automaton_.add_rule(start);
}

int32_t JsonRules::close_behind(int32_t from, char bracket) {
  const int32_t end = automaton_.on_text(from, std::string(1, bracket).c_str());
  automaton_.node(end).final = true;
  return end;
}

// Two chains of nodes: before the first member and behind a comma, where one must follow.
int32_t JsonRules::object(std::span<const Member> members, std::optional<int32_t> more) {
  const size_t count = members.size();
  const int32_t start = automaton_.add_node(), end = automaton_.add_node(true);
  std::vector<int32_t> first, behind_comma, behind_member;
  for (size_t i = 0; i <= count; ++i) {
    first.push_back(i == 0 ? behind_whitespace(automaton_.on_text(start, "{")) : automaton_.add_node());
    behind_comma.push_back(automaton_.add_node());
    behind_member.push_back(automaton_.add_node());
  }
  const int32_t close = automaton_.add_node();
  automaton_.on_byte(close, '}', '}', end);
  automaton_.on_byte(first[count], '}', '}', end);
  bool may_close = true;
  for (size_t i = count + 1; i-- > 0;) {
    if (i < count) {
      for (const auto& chain : {first, behind_comma}) {
        automaton_.on_call(chain[i], members[i].rule, behind_member[i + 1]);
        if (!members[i].required) automaton_.on_nothing(chain[i], chain[i + 1]);
      }
      may_close = may_close && !members[i].required;
    } else if (more) {
      automaton_.on_call(first[count], *more, behind_member[count]);
      automaton_.on_call(behind_comma[count], *more, behind_member[count]);
    }
    if (may_close) automaton_.on_call(behind_member[i], whitespace(), close);
    if (i == count && !more) continue;
    const int32_t comma = automaton_.on_text(behind_member[i], ",");
    automaton_.on_call(comma, whitespace(), behind_comma[i]);
  }
  return automaton_.add_rule(start);
}

int32_t JsonRules::array(std::span<const int32_t> first, std::optional<int32_t> more, int32_t least,
                         int32_t most) {
  const auto fixed = static_cast<int32_t>(first.size());
  if (least > most || (least > fixed && !more)) return nothing();
  const int32_t start = automaton_.add_node(), end = automaton_.add_node(true), close = automaton_.add_node();
  automaton_.on_byte(close, ']', ']', end);
  int32_t before = behind_whitespace(automaton_.on_text(start, "["));  // where the next item may stand
  if (least == 0) automaton_.on_byte(before, ']', ']', end);
  for (int32_t i = 0; i < std::min(fixed, most); ++i) {
    const int32_t behind = automaton_.add_node();
    automaton_.on_call(before, first[static_cast<size_t>(i)], behind);
    if (i + 1 >= least) automaton_.on_call(behind, whitespace(), close);
    before = behind_whitespace(automaton_.on_text(behind, ","));
  }
  if (!more || most <= fixed) return automaton_.add_rule(start);  // the last `before` leads nowhere
  const int32_t behind = automaton_.add_node(), comma = automaton_.add_node();
  AutomatonNode& loop = automaton_.node(behind);
  loop.least = std::max(0, least - fixed);
  loop.most = most == AutomatonNode::kNoMost ? most : most - fixed;
  loop.counts = loop.least > 1 || loop.most != AutomatonNode::kNoMost;
  const bool counts = loop.counts;
  const int32_t loop_least = loop.least, loop_most = loop.most;
  automaton_.on_call(before, *more, behind);
  automaton_.on_call(behind, whitespace(), close, counts ? EdgeGuard::from_least : EdgeGuard::open);
  automaton_.on_byte(behind, ',', ',', comma, counts ? EdgeGuard::below_most : EdgeGuard::open);
  const int32_t again = behind_whitespace(comma);
  automaton_.on_call(again, *more, behind);
  for (const int32_t node : {comma, again}) {
    automaton_.node(node).least = counts ? loop_least : 0;
    automaton_.node(node).most = counts ? loop_most : 0;
  }
  if (!counts) automaton_.node(behind).least = automaton_.node(behind).most = 0;
  return automaton_.add_rule(start);
}

int32_t JsonRules::any_value() {
  if (const auto known = made_.find("value"); known != made_.end()) return known->second;
  const int32_t rule = made_["value"] = automaton_.add_rule();
  const int32_t start = automaton_.add_node(), end = automaton_.add_node(true);
  automaton_.set_start(rule, start);
  for (const int32_t one :
       {any_object(), any_array(), any_string(), number(), text("true"), text("false"), text("null")}) {
    automaton_.on_call(start, one, end);
  }
  return rule;
}

int32_t JsonRules::any_object() {
  if (const auto known = made_.find("object"); known != made_.end()) return known->second;
  const int32_t rule = made_["object"] = automaton_.add_rule();
  const int32_t member = member_besides({}, any_value());
  automaton_.set_start(rule, automaton_.start(object({}, member)));
  return rule;
}

int32_t JsonRules::any_array() {
  if (const auto known = made_.find("array"); known != made_.end()) return known->second;
  const int32_t rule = made_["array"] = automaton_.add_rule();
  automaton_.set_start(rule, automaton_.start(array({}, any_value(), 0, AutomatonNode::kNoMost)));
  return rule;
}

}  // namespace fovea
