// The AVX-512 BF16 kernels over emulated intrinsics: a table for the tests of all variants.
#ifdef __x86_64__
#include "kernels/avx512_emulation_testing.h"

#define FOVEA_BF16_DOT 1
#define FOVEA_VNNI 1
#include "kernels/simd_avx512.h"
//
#include "kernels/kernels-inl.h"

namespace fovea {
extern const Kernels kAvx512Bf16EmulatedKernels;
constinit const Kernels kAvx512Bf16EmulatedKernels = make_kernels("avx512_bf16_emulated");

void emulated_dot_pairs(const float acc[16], const uint16_t a[32], const uint16_t b[32], float out[16]);
void emulated_dot_pairs(const float acc[16], const uint16_t a[32], const uint16_t b[32], float out[16]) {
  Simd::store(out, Simd::dot_pairs(Simd::load(acc), Simd::load_pairs(a), Simd::load_pairs(b)));
}
}  // namespace fovea
#endif
