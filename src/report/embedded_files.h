// The page's own files, compiled into the program.
#pragma once

#include <string_view>

namespace fovea::report {

std::string_view embedded_page();
std::string_view embedded_style();
std::string_view embedded_script();

}  // namespace fovea::report
