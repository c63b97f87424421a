// Text from outside made fit for a terminal and a log.
#pragma once

#include <string>
#include <string_view>

namespace fovea {

// The text with everything that is not meant to be seen spelled out: NUL, ESC, carriage returns and all other
// control characters as \x1b, those of Unicode's second set as \u009b, bytes that are no UTF-8 as \xff. Line
// breaks and tabs stay. Without this a quoted file name could clear the screen, or end a message early.
std::string printable(std::string_view text);

}  // namespace fovea
