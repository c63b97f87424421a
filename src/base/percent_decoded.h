// The escapes of URLs.
#pragma once

#include <string>
#include <string_view>

namespace fovea {

// The text with every "%41" as the byte it stands for; a percent sign without two hexadecimal digits stays.
std::string percent_decoded(std::string_view text);

}  // namespace fovea
