// Unicode normalisation form C as the reference knows it (Unicode 9).
#pragma once

#include <string>
#include <string_view>

namespace fovea {

// Requires: well-formed UTF-8. Time is near linear, whatever the text.
std::string nfc(std::string_view text);

}  // namespace fovea
