#include "cli/version.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fovea_commit.h>

#include <vector>

#include "comm/world.h"
#include "media/libraries.h"
#include "runtime/kernel_variants.h"

namespace fovea {

namespace {

std::string compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

}  // namespace

std::string version_text() {
  const std::string mpi = mpi_version();
  return fmt::format(
      "fovea {} (commit {})\ncompiler  {}\nkernels   {} (can run: {})\nMPI       {}\nlibraries "
      "{}\n",
      FOVEA_VERSION, FOVEA_COMMIT, compiler(), chosen_kernel_variant(),
      fmt::join(available_kernel_variants(), ", "), mpi.empty() ? "none" : mpi,
      fmt::join(media_libraries(), ", "));
}

}  // namespace fovea
