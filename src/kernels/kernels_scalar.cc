#include "kernels/simd_scalar.h"
//
#include "kernels/kernels-inl.h"

namespace fovea {
extern const Kernels kScalarKernels;
constinit const Kernels kScalarKernels = make_kernels("scalar");
}  // namespace fovea
