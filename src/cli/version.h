// What `fovea --version` prints.
#pragma once

#include <string>

namespace fovea {

// Version and commit; compiler; kernels; MPI; the libraries that read pictures and videos. A line each.
std::string version_text();

}  // namespace fovea
