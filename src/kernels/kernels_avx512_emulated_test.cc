// The AVX-512 kernels over emulated intrinsics: a table for the tests of all variants.
#ifdef __x86_64__
#include "kernels/avx512_emulation_testing.h"
//
#include "kernels/simd_avx512.h"
//
#include "kernels/kernels-inl.h"

namespace fovea {
extern const Kernels kAvx512EmulatedKernels;
constinit const Kernels kAvx512EmulatedKernels = make_kernels("avx512_emulated");
}  // namespace fovea
#endif
