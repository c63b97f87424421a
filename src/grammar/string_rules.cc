#include "grammar/string_rules.h"

#include <algorithm>
#include <map>

#include "base/error.h"
#include "grammar/pattern.h"

namespace fovea {

namespace {

constexpr const char* kDate =
    "(?:(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})-"
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
    "02-(?:0[1-9]|1[0-9]|2[0-8]))|"
    // Of the leap years, the last day of February.
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29)";
constexpr const char* kTime =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
constexpr const char* kUuid = "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}";
constexpr const char* kEmail =
    "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@"
    "(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\\.)+[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
constexpr const char* kByte = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";

// Where in a character the bytes before have come to: nothing of it, so many bytes that are left of it, or
// behind a backslash.
constexpr int kBetween = 0, kBackslash = -1;

int place_behind(int place, uint8_t byte) {
  if (place == kBackslash) return byte == 'u' ? 4 : kBetween;
  if (place > 0) return place - 1;
  if (byte == '\\') return kBackslash;
  if (byte < 0xC0) return kBetween;
  return byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
}

// The strings of a rule, without its quotes, that have so many characters, with quotes. Its nodes are where
// no character is half read, or all of it are equally far: what may follow differs.
class CountedStrings {
 public:
  CountedStrings(const Automaton& strings, Automaton& to, int32_t least, int32_t most)
      : strings_(strings), to_(to), least_(least), most_(most) {}

  int32_t rule(int32_t start) {
    const int32_t begin = to_.add_node();
    end_ = to_.add_node(true);
    to_.on_byte(begin, '"', '"', node_of({start, 0, kBetween}));
    for (size_t i = 0; i < found_.size(); ++i) expand(found_[i]->first, found_[i]->second);
    return to_.add_rule(begin);
  }

 private:
  struct Place {
    int32_t node, characters;
    int place;
    auto operator<=>(const Place&) const = default;
  };

  int32_t node_of(const Place& place) {
    const auto [known, is_new] = nodes_.emplace(place, 0);
    if (is_new) {
      known->second = to_.add_node();
      found_.push_back(&*known);
    }
    return known->second;
  }

  void expand(const Place& at, int32_t from) {
    const AutomatonNode& node = strings_.node(at.node);
    if (at.place == kBetween && node.final && at.characters >= least_) to_.on_byte(from, '"', '"', end_);
    if (at.place == kBetween && at.characters == most_) return;
    for (const ByteEdge& edge : node.bytes) {
      // Bytes of one edge may be of characters of different length.
      for (int low = edge.low; low <= edge.high;) {
        const int place = place_behind(at.place, static_cast<uint8_t>(low));
        int high = low;
        while (high < edge.high && place_behind(at.place, static_cast<uint8_t>(high + 1)) == place) ++high;
        int32_t characters = at.characters + (place == kBetween ? 1 : 0);
        if (most_ == AutomatonNode::kNoMost) characters = std::min(characters, least_);
        to_.on_byte(from, static_cast<uint8_t>(low), static_cast<uint8_t>(high),
                    node_of({edge.to, characters, place}));
        low = high + 1;
      }
    }
  }

  const Automaton& strings_;
  Automaton& to_;
  int32_t least_, most_, end_ = 0;
  std::map<Place, int32_t> nodes_;
  std::vector<const std::pair<const Place, int32_t>*> found_;
};

}  // namespace

std::optional<std::string> pattern_of_format(std::string_view format) {
  const auto anchored = [](const std::string& pattern) { return "^(?:" + pattern + ")$"; };
  if (format == "date") return anchored(kDate);
  if (format == "time") return anchored(kTime);
  if (format == "date-time") return anchored(fmt::format("{}T{}", kDate, kTime));
  if (format == "uuid") return anchored(kUuid);
  if (format == "email") return anchored(kEmail);
  if (format == "ipv4") return anchored(fmt::format("{0}\\.{0}\\.{0}\\.{0}", kByte));
  return std::nullopt;
}

std::string known_formats() { return "date, time, date-time, uuid, email, ipv4"; }

int32_t add_pattern_rule(Automaton& automaton, const std::string& pattern, int32_t least, int32_t most) {
  ByteNfa nfa;
  const int32_t start = nfa.add_state();
  if (least == 0 && most == AutomatonNode::kNoMost) {
    const int32_t end = nfa.add_state(), first = nfa.add_state();
    nfa.on_byte(start, '"', '"', first);
    nfa.on_byte(add_pattern(nfa, first, pattern), '"', '"', end);
    return nfa.add_rule_to(automaton, start, end);
  }
  Automaton strings;
  const int32_t rule = nfa.add_rule_to(strings, start, add_pattern(nfa, start, pattern));
  return CountedStrings(strings, automaton, least, most).rule(strings.start(rule));
}

}  // namespace fovea
