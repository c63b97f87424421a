#include <immintrin.h>

#define FOVEA_BF16_DOT 1
#define FOVEA_VNNI 1
#include "kernels/simd_avx512.h"
//
#include "kernels/kernels-inl.h"

namespace fovea {
extern const Kernels kAvx512Bf16Kernels;
constinit const Kernels kAvx512Bf16Kernels = make_kernels("avx512_bf16");
}  // namespace fovea
