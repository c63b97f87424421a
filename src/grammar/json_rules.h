// The parts that JSON texts are made of, as rules of an automaton; each is made once.
//
// White space, decided here for all of JSON: behind { [ , : and before } ] may stand nothing, one space, or a
// line break and up to kMostIndent spaces; nowhere else. That is what models write, compact or indented, and
// no answer can go on with white space for ever.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/byte_nfa.h"

namespace fovea {

inline constexpr int kMostIndent = 32;

class JsonRules {
 public:
  explicit JsonRules(Automaton& automaton) : automaton_(automaton) {}
  Automaton& automaton() { return automaton_; }

  int32_t whitespace();
  int32_t any_value();
  int32_t any_object();
  int32_t any_array();
  int32_t any_string();  // with every escape of JSON; surrogates only in pairs
  int32_t integer();
  int32_t number();
  int32_t text(const std::string& bytes);  // these bytes
  int32_t nothing();                       // a rule that accepts no text
  int32_t any_of(const std::vector<int32_t>& rules);
  int32_t one_of_texts(const std::vector<std::string>& texts);
  // Of so many characters (code points); `most` may be AutomatonNode::kNoMost.
  int32_t string_of_length(int32_t least, int32_t most);
  // "name": value
  int32_t member(const std::string& name, int32_t value);
  // Any name but these: value
  int32_t member_besides(std::span<const std::string> names, int32_t value);

  struct Member {
    int32_t rule;
    bool required;
  };
  // In this order; then any number of `more`, where there is such a rule.
  int32_t object(std::span<const Member> members, std::optional<int32_t> more);
  // The first ones by their place, any number of `more` behind them; from `least` to `most` together.
  int32_t array(std::span<const int32_t> first, std::optional<int32_t> more, int32_t least, int32_t most);

  // The rule that `make` adds; once for each key.
  int32_t once(const std::string& key, const std::function<int32_t()>& make);

 private:
  int32_t make_string(int32_t least, int32_t most, bool counts);
  int32_t close_behind(int32_t from, char bracket);
  int32_t behind_whitespace(int32_t from);

  Automaton& automaton_;
  std::map<std::string, int32_t> made_;
};

// As a JSON text without unneeded escapes or white space.
std::string json_string(const std::string& utf8);

}  // namespace fovea
