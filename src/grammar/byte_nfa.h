// Regular languages over bytes, put together from parts and made deterministic: strings, patterns, numbers,
// enums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/automaton.h"

namespace fovea {

// Code points, both ends included.
using CodePoints = std::vector<std::pair<char32_t, char32_t>>;
inline constexpr char32_t kLastCodePoint = 0x10FFFF;

// Sorted, without overlaps; everything else.
CodePoints complement(CodePoints ranges);

class ByteNfa {
 public:
  static constexpr size_t kMostStates = 100'000;
  static constexpr size_t kMostSubsets = 50'000;  // of the deterministic one

  // Throw Error(exhausted) where it becomes too large.
  int32_t add_state();
  void on_byte(int32_t from, uint8_t low, uint8_t high, int32_t to);
  void on_nothing(int32_t from, int32_t to);
  int32_t on_text(int32_t from, std::string_view bytes);
  // One character of a JSON string as a JSON text without unneeded escapes has it: UTF-8, but \" \\ \b \f \n
  // \r \t and \u00xx with small letters for other control characters. Surrogates are no characters.
  void on_character(int32_t from, const CodePoints& among, int32_t to);

  // A rule of the automaton that accepts what leads from `start` to `end`.
  int32_t add_rule_to(Automaton& automaton, int32_t start, int32_t end) const;

 private:
  struct Edge {
    uint8_t low, high;
    int32_t to;
  };
  struct State {
    std::vector<Edge> edges;
    std::vector<int32_t> nothing;
  };
  class Subsets;
  void on_escape(int32_t from, const CodePoints& among, int32_t to);
  void on_utf8(int32_t from, char32_t low, char32_t high, int32_t to);
  void on_utf8_of_length(int32_t from, char32_t low, char32_t high, int length, int32_t to);

  std::vector<State> states_;
};

}  // namespace fovea
