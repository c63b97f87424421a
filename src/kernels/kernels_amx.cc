#include <immintrin.h>

#define FOVEA_BF16_DOT 1
#define FOVEA_VNNI 1
#include "kernels/simd_avx512.h"
//
#include "kernels/kernels-inl.h"
//
#include "kernels/amx-inl.h"

namespace fovea {
extern const Kernels kAmxKernels;
constinit const Kernels kAmxKernels = make_amx_kernels("amx");
}  // namespace fovea
