// Eight f32 lanes with AVX2, FMA and F16C. Meaning of each function: simd_scalar.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define FOVEA_IN_REGISTER(a) __asm__("" : "+x"(a))

namespace fovea {
namespace {

struct Simd {
  static constexpr int kWidth = 8;
  static constexpr int kTileRows = 4, kTileCols = 3;  // 12 accumulators + 3 + 1 of 16 registers
  static constexpr int kFewTileRows = 4;
  static constexpr int64_t kMostWidening = INT64_MAX;  // a third unit widens beside the two that add
  static constexpr int kOuterRows = 6, kOuterVectors = 2;
  static constexpr int kInt8Rows = 4, kInt8Vectors = 2, kInt4Rows = 4, kInt4Vectors = 2;
  using F = __m256;
  using I = __m256i;

  static F splat(float x) { return _mm256_set1_ps(x); }
  static __m256i first(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m128i load_u16(const uint16_t* p, int count) {
    alignas(16) uint16_t lanes[8] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(lanes));
  }
  static __m128i load_u16(const uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static F widen_bf16(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static F load(const float* p, int count) { return _mm256_maskload_ps(p, first(count)); }
  static F load_bf16(const uint16_t* p) { return widen_bf16(load_u16(p)); }
  static F load_bf16(const uint16_t* p, int count) { return widen_bf16(load_u16(p, count)); }
  // Both halves get all eight, and each spreads its own four by a pattern that stays in memory: that leaves
  // more time to the sums than widening and shifting.
  static F load_bf16_beside_sums(const uint16_t* p) {
    alignas(32) static constexpr int8_t kSpread[32] = {-1, -1, 0,  1,  -1, -1, 2,  3,  -1, -1, 4,
                                                       5,  -1, -1, 6,  7,  -1, -1, 8,  9,  -1, -1,
                                                       10, 11, -1, -1, 12, 13, -1, -1, 14, 15};
    __m256i bits = _mm256_broadcastsi128_si256(load_u16(p));
    __asm__("vpshufb %1, %0, %0" : "+x"(bits) : "m"(kSpread));
    return _mm256_castsi256_ps(bits);
  }
  static F load_bf16_beside_sums(const uint16_t* p, int count) { return load_bf16(p, count); }
  static F load_f16(const uint16_t* p) { return _mm256_cvtph_ps(load_u16(p)); }
  static F load_f16(const uint16_t* p, int count) { return _mm256_cvtph_ps(load_u16(p, count)); }
  static void store(float* p, F a) { _mm256_storeu_ps(p, a); }
  static void store(float* p, F a, int count) { _mm256_maskstore_ps(p, first(count), a); }

  // Bits of the nearest bf16 in the upper half of each lane (the lower half is cleared).
  static __m256i bf16_bits(F a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i near = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_and_si256(_mm256_blendv_epi8(near, quiet, is_nan), _mm256_set1_epi32(-65536));
  }
  static F round_bf16(F a) { return _mm256_castsi256_ps(bf16_bits(a)); }
  static void store_bf16(uint16_t* p, F a) {
    const __m256i high = _mm256_srli_epi32(bf16_bits(a), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
  static void store_f16(uint16_t* p, F a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }

  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F round_to_integer(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static F power_of_two(F a) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  }
  static F zero_where_less(F a, F b, F c) { return _mm256_andnot_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ), c); }

  static void sum4(F a, F b, F c, F d, float out[4]) {
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
  }
  static void sum_pair(const F a[4], const F b[4], float* y, float* z, bool first) {
    float sums[8];
    sum4(a[0], a[1], a[2], a[3], sums);
    sum4(b[0], b[1], b[2], b[3], sums + 4);
    const __m128 to_y = _mm_loadu_ps(sums), to_z = _mm_loadu_ps(sums + 4);
    _mm_storeu_ps(y, first ? to_y : _mm_add_ps(_mm_loadu_ps(y), to_y));
    _mm_storeu_ps(z, first ? to_z : _mm_add_ps(_mm_loadu_ps(z), to_z));
  }
  static float max_lane(F a) {
    __m128 best = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    best = _mm_max_ps(best, _mm_movehl_ps(best, best));
    return _mm_cvtss_f32(_mm_max_ss(best, _mm_shuffle_ps(best, best, 1)));
  }

  static I splat_int(int32_t x) { return _mm256_set1_epi32(x); }
  static I load_int(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static I add_int(I a, I b) { return _mm256_add_epi32(a, b); }
  static F from_int(I a) { return _mm256_cvtepi32_ps(a); }
  static F load_int8(const int8_t* p) {
    return from_int(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_int8(int8_t* p, F a) {
    const __m256i words =
        _mm256_permute4x64_epi64(_mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_setzero_si256()), 0x08);
    const __m128i low = _mm256_castsi256_si128(words);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(low, low));
  }
  // Products of |x| and w with the sign of x: pairs reach 2 * 127 * 127, within 16 bits.
  static constexpr int kByteOffset = 0;
  static I bytes_for_dot(I w) { return w; }
  static I dot_bytes(I acc, I w, I x) { return dot_nibbles(acc, _mm256_abs_epi8(x), _mm256_sign_epi8(w, x)); }
  // Unsigned times signed bytes whose pairs fit 16 bits.
  static I dot_nibbles(I acc, I w, I x) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
  }
  static I begin_nibbles(I /*acc*/) { return _mm256_setzero_si256(); }
  // In 16 bits, which hold eight sums of two products of at most 15 * 127.
  static I add_nibbles(I sums, I w, I x) { return _mm256_add_epi16(sums, _mm256_maddubs_epi16(w, x)); }
  static I end_nibbles(I acc, I sums) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
  }
  static I low_nibbles(I a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
  static I high_nibbles(I a) { return low_nibbles(_mm256_srli_epi32(a, 4)); }
};

}  // namespace
}  // namespace fovea
