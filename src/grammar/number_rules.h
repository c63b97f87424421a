// Numbers within bounds, digit by digit.
#pragma once

#include <optional>
#include <string>

#include "grammar/automaton.h"

namespace fovea {

// A decimal number, exactly: `digits` without a point, of which `decimals` stand behind it.
struct Decimal {
  bool negative = false;
  std::string digits;  // without leading zeros; empty for 0
  int32_t decimals = 0;
};

// Reads a JSON number. Nothing where it has more than 18 digits, zeros before and behind them
// not counted but those up to the point.
std::optional<Decimal> decimal_of(const std::string& json);

struct NumberBounds {
  std::optional<Decimal> minimum, maximum;
  bool exclusive_minimum = false, exclusive_maximum = false;
};

// Without bounds: up to 19 digits, no exponent.
int32_t add_integer_rule(Automaton& automaton);
// Without bounds: up to 19 digits, 19 decimals and an exponent that stays within a double.
int32_t add_number_rule(Automaton& automaton);
// With bounds: no exponent, no -0. Integers have up to 18 digits, other numbers up to 15 with their decimals,
// so that no two are the same double and an exclusive bound is one. Throws Error(unsupported) where the
// bounds themselves have more.
int32_t add_bounded_rule(Automaton& automaton, const NumberBounds& bounds, bool integer);

}  // namespace fovea
