// Strings that match a pattern or have a format.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "grammar/automaton.h"

namespace fovea {

// A regular expression for a "format", anchored; nothing for one that is not supported: date, time, date-time
// (RFC 3339, without leap seconds, years 0001 to 9999), uuid, email (the usual ASCII form), ipv4.
std::optional<std::string> pattern_of_format(std::string_view format);
// Their names, for messages.
std::string known_formats();

// Strings, in quotes, that match the pattern and have from `least` to `most` characters. Throws as
// add_pattern() does, and Error(exhausted) where pattern and bounds need too many states together.
int32_t add_pattern_rule(Automaton& automaton, const std::string& pattern, int32_t least, int32_t most);

}  // namespace fovea
