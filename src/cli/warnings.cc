#include "cli/warnings.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/printable.h"
#include "cli/ranks.h"

namespace fovea {

void print_warnings(const std::vector<std::string>& warnings) {
  if (!first_rank()) return;
  for (const std::string& warning : warnings) fmt::print(stderr, "fovea: warning: {}\n", printable(warning));
}

}  // namespace fovea
