#include "kernels/simd_avx2.h"
//
#include "kernels/kernels-inl.h"

namespace fovea {
extern const Kernels kAvx2Kernels;
constinit const Kernels kAvx2Kernels = make_kernels("avx2");
}  // namespace fovea
