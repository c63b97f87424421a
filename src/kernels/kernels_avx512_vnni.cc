#include <immintrin.h>

#define FOVEA_VNNI 1
#include "kernels/simd_avx512.h"
//
#include "kernels/kernels-inl.h"

namespace fovea {
extern const Kernels kAvx512VnniKernels;
constinit const Kernels kAvx512VnniKernels = make_kernels("avx512_vnni");
}  // namespace fovea
