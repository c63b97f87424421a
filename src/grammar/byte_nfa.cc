#include "grammar/byte_nfa.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/error.h"

namespace fovea {

namespace {

[[noreturn]] void refuse_size() {
  throw Error(ErrorKind::exhausted, "a pattern, enum or bound of the schema needs too many states",
              "use shorter repetitions, or anchor the pattern with ^ and $");
}

struct Escape {
  char32_t code_point;
  char letter;
};
constexpr std::array<Escape, 7> kEscapes = {
    {{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}}};

bool contains(const CodePoints& ranges, char32_t one) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const auto& range) { return range.first <= one && one <= range.second; });
}

// What stands for itself in a JSON string.
constexpr std::array<std::pair<char32_t, char32_t>, 4> kPlain = {
    {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0xD7FF}, {0xE000, kLastCodePoint}}};

}  // namespace

CodePoints complement(CodePoints ranges) {
  std::sort(ranges.begin(), ranges.end());
  CodePoints others;
  char32_t next = 0;
  for (const auto& [low, high] : ranges) {
    if (low > next) others.emplace_back(next, low - 1);
    next = std::max(next, static_cast<char32_t>(high + 1));
  }
  if (next <= kLastCodePoint) others.emplace_back(next, kLastCodePoint);
  return others;
}

int32_t ByteNfa::add_state() {
  if (states_.size() == kMostStates) refuse_size();
  states_.emplace_back();
  return static_cast<int32_t>(states_.size()) - 1;
}

void ByteNfa::on_byte(int32_t from, uint8_t low, uint8_t high, int32_t to) {
  states_[static_cast<size_t>(from)].edges.push_back({low, high, to});
}

void ByteNfa::on_nothing(int32_t from, int32_t to) {
  states_[static_cast<size_t>(from)].nothing.push_back(to);
}

int32_t ByteNfa::on_text(int32_t from, std::string_view bytes) {
  for (const char c : bytes) {
    const int32_t to = add_state();
    on_byte(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
    from = to;
  }
  return from;
}

void ByteNfa::on_character(int32_t from, const CodePoints& among, int32_t to) {
  for (const auto& [low, high] : among) {
    for (const auto& [plain_low, plain_high] : kPlain) {
      if (low > plain_high || high < plain_low) continue;
      on_utf8(from, std::max(low, plain_low), std::min(high, plain_high), to);
    }
  }
  on_escape(from, among, to);
}

void ByteNfa::on_escape(int32_t from, const CodePoints& among, int32_t to) {
  std::array<bool, 0x20> written_as_number{};
  bool any_number = false;
  for (char32_t control = 0; control < 0x20; ++control) {
    const bool has_letter = std::any_of(kEscapes.begin(), kEscapes.end(),
                                        [&](const Escape& escape) { return escape.code_point == control; });
    written_as_number[control] = !has_letter && contains(among, control);
    any_number = any_number || written_as_number[control];
  }
  const bool any_letter = std::any_of(kEscapes.begin(), kEscapes.end(), [&](const Escape& escape) {
    return contains(among, escape.code_point);
  });
  if (!any_letter && !any_number) return;
  const int32_t behind = on_text(from, "\\");
  for (const Escape& escape : kEscapes) {
    if (!contains(among, escape.code_point)) continue;
    on_byte(behind, static_cast<uint8_t>(escape.letter), static_cast<uint8_t>(escape.letter), to);
  }
  if (!any_number) return;
  const int32_t zeros = on_text(behind, "u00");
  for (const size_t high : {0, 1}) {
    const int32_t digit = on_text(zeros, high == 0 ? "0" : "1");
    for (size_t low = 0; low < 16; ++low) {
      if (!written_as_number[high * 16 + low]) continue;
      const auto letter = static_cast<uint8_t>("0123456789abcdef"[low]);
      on_byte(digit, letter, letter, to);
    }
  }
}

void ByteNfa::on_utf8(int32_t from, char32_t low, char32_t high, int32_t to) {
  constexpr std::array<char32_t, 4> kLast = {0x7F, 0x7FF, 0xFFFF, kLastCodePoint};
  for (int length = 1; length <= 4 && low <= high; ++length) {
    const char32_t last = std::min(high, kLast[static_cast<size_t>(length - 1)]);
    if (low > last) continue;
    on_utf8_of_length(from, low, last, length, to);
    low = last + 1;
  }
}

// Splits until a part is a product of byte ranges (Russ Cox, "Regular Expression Matching in the Wild").
void ByteNfa::on_utf8_of_length(int32_t from, char32_t low, char32_t high, int length, int32_t to) {
  for (int i = 1; i < length; ++i) {
    const char32_t tail = (char32_t{1} << (6 * i)) - 1;
    if ((low & ~tail) == (high & ~tail)) continue;
    if ((low & tail) != 0) {
      on_utf8_of_length(from, low, low | tail, length, to);
      return on_utf8_of_length(from, (low | tail) + 1, high, length, to);
    }
    if ((high & tail) != tail) {
      on_utf8_of_length(from, low, (high & ~tail) - 1, length, to);
      return on_utf8_of_length(from, high & ~tail, high, length, to);
    }
  }
  constexpr std::array<uint8_t, 4> kLead = {0, 0xC0, 0xE0, 0xF0};
  for (int i = length - 1; i >= 0; --i) {
    const uint8_t mark = i == length - 1 ? kLead[static_cast<size_t>(i)] : 0x80;
    const char32_t bits = i == length - 1 ? 0xFF : 0x3F;
    const int32_t next = i == 0 ? to : add_state();
    on_byte(from, static_cast<uint8_t>(mark | (low >> (6 * i) & bits)),
            static_cast<uint8_t>(mark | (high >> (6 * i) & bits)), next);
    from = next;
  }
}

// The subset construction.
class ByteNfa::Subsets {
 public:
  Subsets(const ByteNfa& nfa, Automaton& automaton, int32_t end)
      : nfa_(nfa), automaton_(automaton), end_(end), seen_(nfa.states_.size()) {}

  int32_t rule(int32_t start) {
    const int32_t first = node_of({start});
    for (size_t i = 0; i < subsets_.size(); ++i) expand(i);
    return automaton_.add_rule(first);
  }

 private:
  int32_t node_of(std::vector<int32_t> states) {
    close(states);
    automaton_.charge(states.size() + 1);
    const auto [known, is_new] = nodes_.emplace(std::move(states), 0);
    if (!is_new) return known->second;
    if (subsets_.size() == kMostSubsets) refuse_size();
    const bool final = std::binary_search(known->first.begin(), known->first.end(), end_);
    known->second = automaton_.add_node(final);
    subsets_.push_back(&*known);
    return known->second;
  }

  // Adds what is reached without a byte; then sorts.
  void close(std::vector<int32_t>& states) {
    ++round_;
    size_t kept = 0;
    for (const int32_t state : states) {
      if (std::exchange(seen_[static_cast<size_t>(state)], round_) != round_) states[kept++] = state;
    }
    states.resize(kept);
    for (size_t i = 0; i < states.size(); ++i) {
      for (const int32_t next : nfa_.states_[static_cast<size_t>(states[i])].nothing) {
        if (std::exchange(seen_[static_cast<size_t>(next)], round_) != round_) states.push_back(next);
      }
    }
    std::sort(states.begin(), states.end());
  }

  // Between two neighbouring borders all bytes lead to the same subset.
  void expand(size_t index) {
    const std::vector<int32_t> states = subsets_[index]->first;
    const int32_t from = subsets_[index]->second;
    std::array<bool, 257> border{};
    for (const int32_t state : states) {
      for (const Edge& edge : nfa_.states_[static_cast<size_t>(state)].edges) {
        border[edge.low] = border[edge.high + size_t{1}] = true;
      }
    }
    for (size_t low = 0; low < 256;) {
      size_t next = low + 1;
      while (next < 256 && !border[next]) ++next;
      std::vector<int32_t> reached;
      for (const int32_t state : states) {
        for (const Edge& edge : nfa_.states_[static_cast<size_t>(state)].edges) {
          if (edge.low <= low && low <= edge.high) reached.push_back(edge.to);
        }
      }
      automaton_.charge(states.size());
      if (!reached.empty()) {
        const int32_t to = node_of(std::move(reached));
        automaton_.on_byte(from, static_cast<uint8_t>(low), static_cast<uint8_t>(next - 1), to);
      }
      low = next;
    }
  }

  const ByteNfa& nfa_;
  Automaton& automaton_;
  int32_t end_;
  std::vector<uint32_t> seen_;
  uint32_t round_ = 0;
  std::map<std::vector<int32_t>, int32_t> nodes_;
  std::vector<const std::pair<const std::vector<int32_t>, int32_t>*> subsets_;
};

int32_t ByteNfa::add_rule_to(Automaton& automaton, int32_t start, int32_t end) const {
  automaton.charge(states_.size() * 4);
  return Subsets(*this, automaton, end).rule(start);
}

}  // namespace fovea
