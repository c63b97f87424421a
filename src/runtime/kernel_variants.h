// The names of the kernels, for who may not see the kernels themselves.
#pragma once

#include <string>
#include <vector>

namespace fovea {

// Those this machine can run, the scalar one first: "scalar", "avx2", ...
std::vector<std::string> available_kernel_variants();
// The one in use. Throws Error(unsupported) when FOVEA_ISA names one that cannot run here.
std::string chosen_kernel_variant();

}  // namespace fovea
