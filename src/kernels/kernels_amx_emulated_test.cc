// The AMX kernels over emulated intrinsics: a table for the tests of all variants.
#ifdef __x86_64__
#include "kernels/amx_emulation_testing.h"

#define FOVEA_BF16_DOT 1
#define FOVEA_VNNI 1
#include "kernels/simd_avx512.h"
//
#include "kernels/kernels-inl.h"
//
#include "kernels/amx-inl.h"

namespace fovea {
extern const Kernels kAmxEmulatedKernels;
constinit const Kernels kAmxEmulatedKernels = make_amx_kernels("amx_emulated");
}  // namespace fovea
#endif
