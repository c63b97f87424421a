#include <immintrin.h>

#include "kernels/simd_avx512.h"
//
#include "kernels/kernels-inl.h"

namespace fovea {
extern const Kernels kAvx512Kernels;
constinit const Kernels kAvx512Kernels = make_kernels("avx512");
}  // namespace fovea
