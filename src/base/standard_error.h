// Words for whoever watches: on standard error, where a failure to write has nobody left to be told to.
#pragma once

#include <string_view>

namespace fovea {

// All of it, or as much as can be written; where standard error is full or closed, nothing.
void write_standard_error(std::string_view text) noexcept;

}  // namespace fovea
