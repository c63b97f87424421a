#include "grammar/number_rules.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "grammar/byte_nfa.h"

namespace fovea {

namespace {

// Of bounds of integers; together with decimals, so that no two numbers are the same double; without bounds.
constexpr int32_t kMostDigits = 18, kMostExactDigits = 15, kMostFreeDigits = 19;

int32_t on_digits(ByteNfa& nfa, int32_t from, int32_t least, int32_t most, int32_t end) {
  for (int32_t i = 0; i < most; ++i) {
    if (i >= least) nfa.on_nothing(from, end);
    const int32_t to = nfa.add_state();
    nfa.on_byte(from, '0', '9', to);
    from = to;
  }
  nfa.on_nothing(from, end);
  return end;
}

// -?(0|[1-9][0-9]{0,18})
int32_t on_integer(ByteNfa& nfa, int32_t from) {
  const int32_t sign = nfa.add_state(), first = nfa.add_state(), end = nfa.add_state();
  nfa.on_nothing(from, sign);
  nfa.on_byte(from, '-', '-', sign);
  nfa.on_byte(sign, '0', '0', end);
  nfa.on_byte(sign, '1', '9', first);
  return on_digits(nfa, first, 0, kMostFreeDigits - 1, end);
}

// A bound as digits before and behind the point, as long as the longest number that is written.
struct Limit {
  std::string whole, fraction;  // no leading zeros but a single "0"; as many decimals as there may be
};

Limit limit_of(const Decimal& bound, int32_t decimals) {
  std::string digits = bound.digits;
  const auto behind = static_cast<size_t>(bound.decimals);
  if (digits.size() <= behind) digits.insert(0, behind + 1 - digits.size(), '0');
  Limit limit{digits.substr(0, digits.size() - behind), digits.substr(digits.size() - behind)};
  limit.fraction.resize(std::max(static_cast<size_t>(decimals), limit.fraction.size()), '0');
  return limit;
}

// Numbers without sign from `low` to `high`, the digits compared as they come.
class Magnitudes {
 public:
  // What a digit more may be, and whether the number may end, depends on whether it is still equal to the
  // beginning of the lower bound, of the upper bound.
  Magnitudes(ByteNfa& nfa, int32_t end, Limit low, Limit high, bool without_low, bool without_high,
             int32_t decimals)
      : nfa_(nfa),
        end_(end),
        low_(std::move(low)),
        high_(std::move(high)),
        without_low_(without_low),
        without_high_(without_high),
        decimals_(decimals) {}

  void add(int32_t from) {
    for (size_t length = low_.whole.size(); length <= high_.whole.size(); ++length) {
      length_ = length;
      whole(from, 0, length == low_.whole.size(), length == high_.whole.size());
    }
  }

 private:
  template <class Then>
  void digits(int32_t from, char least, const std::string& low, const std::string& high, size_t at,
              bool at_low, bool at_high, const Then& then) {
    const char from_digit = at_low ? std::max(least, low[at]) : least, to_digit = at_high ? high[at] : '9';
    for (char digit = from_digit; digit <= to_digit; ++digit) {
      const int32_t to = nfa_.add_state();
      nfa_.on_byte(from, static_cast<uint8_t>(digit), static_cast<uint8_t>(digit), to);
      then(to, at_low && digit == low[at], at_high && digit == high[at]);
    }
  }

  void whole(int32_t from, size_t at, bool at_low, bool at_high) {
    if (at == length_) return behind_whole(from, at_low, at_high);
    if (!at_low && !at_high) {
      int32_t last = from;
      for (; at < length_; ++at) {
        const int32_t to = nfa_.add_state();
        nfa_.on_byte(last, at == 0 && length_ > 1 ? '1' : '0', '9', to);
        last = to;
      }
      return behind_whole(last, false, false);
    }
    digits(from, at == 0 && length_ > 1 ? '1' : '0', low_.whole, high_.whole, at, at_low, at_high,
           [&](int32_t to, bool still_low, bool still_high) { whole(to, at + 1, still_low, still_high); });
  }

  void behind_whole(int32_t from, bool at_low, bool at_high) {
    end_if_within(from, 0, at_low, at_high);
    if (decimals_ == 0) return;
    const int32_t point = nfa_.add_state();
    nfa_.on_byte(from, '.', '.', point);
    fraction(point, 0, at_low, at_high);
  }

  void fraction(int32_t from, size_t at, bool at_low, bool at_high) {
    if (at > 0) end_if_within(from, at, at_low, at_high);
    if (at == static_cast<size_t>(decimals_)) return;
    if (!at_low && !at_high) {
      on_digits(nfa_, from, at == 0 ? 1 : 0, decimals_ - static_cast<int32_t>(at), end_);
      return;
    }
    digits(from, '0', low_.fraction, high_.fraction, at, at_low, at_high,
           [&](int32_t to, bool still_low, bool still_high) { fraction(to, at + 1, still_low, still_high); });
  }

  void end_if_within(int32_t from, size_t at, bool at_low, bool at_high) {
    const auto is_whole = [&](const Limit& limit) {
      return limit.fraction.find_first_not_of('0', at) == std::string::npos;
    };
    if (at_low && (!is_whole(low_) || without_low_)) return;  // below it, or it itself
    if (at_high && is_whole(high_) && without_high_) return;
    nfa_.on_nothing(from, end_);
  }

  ByteNfa& nfa_;
  int32_t end_;
  Limit low_, high_;
  bool without_low_, without_high_;
  int32_t decimals_;
  size_t length_ = 0;
};

}  // namespace

std::optional<Decimal> decimal_of(const std::string& json) {
  Decimal decimal;
  size_t at = 0;
  decimal.negative = json[0] == '-';
  if (decimal.negative) ++at;
  int64_t exponent = 0;
  bool behind = false;
  for (; at < json.size() && (json[at] | 0x20) != 'e'; ++at) {
    if (json[at] == '.') {
      behind = true;
      continue;
    }
    decimal.digits += json[at];
    if (behind) --exponent;
  }
  if (at < json.size()) {
    int64_t written = 0;
    const char* first = json.data() + at + 1;
    if (*first == '+') ++first;
    const auto result = std::from_chars(first, json.data() + json.size(), written);
    if (result.ec != std::errc() || std::abs(written) > 1000) return std::nullopt;
    exponent += written;
  }
  decimal.digits.erase(0, decimal.digits.find_first_not_of('0'));
  if (decimal.digits.empty()) return Decimal{};
  for (; exponent < 0 && decimal.digits.back() == '0'; ++exponent) decimal.digits.pop_back();
  if (exponent > 0) {
    if (exponent > kMostDigits) return std::nullopt;
    decimal.digits.append(static_cast<size_t>(exponent), '0');
    exponent = 0;
  }
  decimal.decimals = static_cast<int32_t>(-exponent);
  const auto size = static_cast<int64_t>(decimal.digits.size());
  if (decimal.decimals > kMostDigits || size > kMostDigits + decimal.decimals) return std::nullopt;
  return decimal;
}

int32_t add_integer_rule(Automaton& automaton) {
  ByteNfa nfa;
  const int32_t start = nfa.add_state();
  return nfa.add_rule_to(automaton, start, on_integer(nfa, start));
}

int32_t add_number_rule(Automaton& automaton) {
  ByteNfa nfa;
  const int32_t start = nfa.add_state();
  const int32_t whole = on_integer(nfa, start);
  const int32_t point = nfa.add_state(), mantissa = nfa.add_state(), e = nfa.add_state(),
                end = nfa.add_state();
  nfa.on_nothing(whole, mantissa);
  nfa.on_byte(whole, '.', '.', point);
  on_digits(nfa, point, 1, kMostFreeDigits, mantissa);
  nfa.on_nothing(mantissa, end);
  nfa.on_byte(mantissa, 'e', 'e', e);
  nfa.on_byte(mantissa, 'E', 'E', e);
  const int32_t falls = nfa.add_state(), rises = nfa.add_state();
  nfa.on_byte(e, '-', '-', falls);
  nfa.on_byte(e, '+', '+', rises);
  nfa.on_nothing(e, rises);
  on_digits(nfa, falls, 1, 3, end);
  // Less than 280: with 19 digits before the point it stays below the largest double, 1.8e308.
  on_digits(nfa, rises, 1, 2, end);
  const int32_t hundred = nfa.add_state(), two_hundred = nfa.add_state(), last = nfa.add_state();
  nfa.on_byte(rises, '1', '1', hundred);
  on_digits(nfa, hundred, 2, 2, end);
  nfa.on_byte(rises, '2', '2', two_hundred);
  nfa.on_byte(two_hundred, '0', '7', last);
  nfa.on_byte(last, '0', '9', end);
  return nfa.add_rule_to(automaton, start, end);
}

int32_t add_bounded_rule(Automaton& automaton, const NumberBounds& bounds, bool integer) {
  const auto digits_before_point = [](const std::optional<Decimal>& bound) {
    return bound ? std::max<int32_t>(0, static_cast<int32_t>(bound->digits.size()) - bound->decimals) : 0;
  };
  const int32_t longest =
      std::max({1, digits_before_point(bounds.minimum), digits_before_point(bounds.maximum)});
  int32_t decimals = 0;
  if (!integer) {
    const int32_t stated = std::max(bounds.minimum ? bounds.minimum->decimals : 0,
                                    bounds.maximum ? bounds.maximum->decimals : 0);
    if (longest + stated > kMostExactDigits) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("bounds with more than {} digits before and behind the point together",
                              kMostExactDigits),
                  "round them");
    }
    const bool open = !bounds.minimum || !bounds.maximum;
    decimals = open ? std::max(stated, std::min(kMostExactDigits - longest, 6)) : kMostExactDigits - longest;
  }
  const int32_t open_digits = integer ? kMostDigits : kMostExactDigits - decimals;
  const Decimal least{}, most{false, std::string(static_cast<size_t>(open_digits), '9'), 0};
  ByteNfa nfa;
  const int32_t start = nfa.add_state(), end = nfa.add_state();
  const auto add = [&](int32_t from, const Decimal& low, const Decimal& high, bool without_low,
                       bool without_high) {
    Magnitudes(nfa, end, limit_of(low, decimals), limit_of(high, decimals), without_low, without_high,
               decimals)
        .add(from);
  };
  // Not negative: 0 or the minimum to the maximum.
  if (!bounds.maximum || !bounds.maximum->negative) {
    const bool from_zero = !bounds.minimum || bounds.minimum->negative;
    add(start, from_zero ? least : *bounds.minimum, bounds.maximum.value_or(most),
        !from_zero && bounds.exclusive_minimum, bounds.maximum && bounds.exclusive_maximum);
  }
  // Negative: from the maximum's magnitude, or more than 0, to the minimum's.
  if (!bounds.minimum || bounds.minimum->negative) {
    const bool from_zero = !bounds.maximum || !bounds.maximum->negative;
    const int32_t minus = nfa.on_text(start, "-");
    add(minus, from_zero ? least : *bounds.maximum, bounds.minimum.value_or(most),
        from_zero || bounds.exclusive_maximum, bounds.minimum && bounds.exclusive_minimum);
  }
  return nfa.add_rule_to(automaton, start, end);
}

}  // namespace fovea
