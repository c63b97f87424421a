// What the library found odd but harmless, on standard error.
#pragma once

#include <string>
#include <vector>

namespace fovea {

// "fovea: warning: ..." for each; by the first rank only.
void print_warnings(const std::vector<std::string>& warnings);

}  // namespace fovea
