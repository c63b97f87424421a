#include "cli/warnings.h"

#include "cli/output.h"
#include "cli/ranks.h"

namespace fovea {

void print_warnings(const std::vector<std::string>& warnings) {
  if (!first_rank()) return;
  for (const std::string& warning : warnings) print_warning("fovea: warning: {}\n", warning);
}

}  // namespace fovea
