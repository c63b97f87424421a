// Sixteen f32 lanes with AVX-512 (F, BW, DQ, VL), and native bf16 dot products where the machine has them.
// Meaning of each function: simd_scalar.h. The intrinsics come from the including file: the compiler's own,
// or an emulation of them, so that this code is tested on machines without AVX-512.
#pragma once

#include <cstdint>

#ifdef __AVX512F__
#define FOVEA_IN_REGISTER(a) __asm__("" : "+v"(a))
#else
#define FOVEA_IN_REGISTER(a) static_cast<void>(a)
#endif

namespace fovea {
namespace {

struct Simd {
  static constexpr int kWidth = 16;
  static constexpr int kTileRows = 6, kTileCols = 4;  // 24 accumulators + 4 + 1 of 32 registers
  static constexpr int kFewTileRows = 8;              // one strip of 8 x 3 for a batch of 8
  static constexpr int64_t kMostWidening = 16;        // widening takes one of the two units that add
  static constexpr int kOuterRows = 8, kOuterVectors = 3;
  static constexpr int kInt8Rows = 6, kInt8Vectors = 4;  // 24 accumulators + 4 + 1
  static constexpr int kInt4Rows = 6, kInt4Vectors = 2;  // 12 of integers, 12 of f32, 4 + 2
  using F = __m512;
#ifdef __AVX512F__
  // Lanes of int: gcc 12 copies sums of type __m512i, whose lanes are long, in every step.
  using I = int __attribute__((vector_size(64)));
#else
  using I = __m512i;
#endif

  static F splat(float x) { return _mm512_set1_ps(x); }
  static __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1u); }
  static __m256i load_u16(const uint16_t* p, int count) {
    alignas(32) uint16_t lanes[16] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes));
  }
  static __m256i load_u16(const uint16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static F widen_bf16(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static F load(const float* p, int count) { return _mm512_maskz_loadu_ps(first(count), p); }
  static F load_bf16(const uint16_t* p) { return widen_bf16(load_u16(p)); }
  static F load_bf16(const uint16_t* p, int count) { return widen_bf16(load_u16(p, count)); }
  template <typename... Count>
  static F load_bf16_beside_sums(const uint16_t* p, Count... count) {
    return load_bf16(p, count...);
  }
  static F load_f16(const uint16_t* p) { return _mm512_cvtph_ps(load_u16(p)); }
  static F load_f16(const uint16_t* p, int count) { return _mm512_cvtph_ps(load_u16(p, count)); }
  static void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static void store(float* p, F a, int count) { _mm512_mask_storeu_ps(p, first(count), a); }

  static __m512i bf16_bits(F a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    return _mm512_and_si512(_mm512_mask_blend_epi32(is_nan, near, quiet), _mm512_set1_epi32(-65536));
  }
  static F round_bf16(F a) { return _mm512_castsi512_ps(bf16_bits(a)); }
  static void store_bf16(uint16_t* p, F a) {
    const __m256i packed = _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits(a), 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
  }
  static void store_f16(uint16_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
  }

  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F round_to_integer(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT); }
  // a * 2^b for an integer b.
  static F times_power_of_two(F a, F b) { return _mm512_scalef_ps(a, b); }
  // The first `count` <= 16 lanes of a, then those of b.
  static F first_of(int count, F a, F b) { return _mm512_mask_blend_ps(first(count), b, a); }
  static F power_of_two(F a) {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
  }
  static F zero_where_less(F a, F b, F c) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), c, _mm512_setzero_ps());
  }

  static __m256 fold(F a) { return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }
  static void sum4(F a, F b, F c, F d, float out[4]) {
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(fold(a), fold(b)), _mm256_hadd_ps(fold(c), fold(d)));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
  }
  // Quarters by two bits each: the first two from a, the others from b.
  template <int kWhich>
  static F quarters(F a, F b) {
    return _mm512_shuffle_f32x4(a, b, kWhich);
  }
  // Lanes 0 to 7 of a, those of b, each plus the eight behind.
  static F fold_two(F a, F b) { return _mm512_add_ps(quarters<0x44>(a, b), quarters<0xee>(a, b)); }
  // Neighbouring lanes added, in each quarter: two sums of a, then two of b.
  static F add_neighbours(F a, F b) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
  }
  static __m128 add_halves(__m256 a) {
    return _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  }
  // The tree of sum4 in half its instructions.
  static void sum_pair(const F a[4], const F b[4], float* y, float* z, bool first) {
    const F left = add_neighbours(fold_two(a[0], b[0]), fold_two(a[1], b[1])),
            right = add_neighbours(fold_two(a[2], b[2]), fold_two(a[3], b[3]));
    const F sums = add_neighbours(left, right);
    __m128 to_y = add_halves(_mm512_castps512_ps256(sums)),
           to_z = add_halves(_mm512_extractf32x8_ps(sums, 1));
    if (!first) {
      to_y = _mm_add_ps(_mm_loadu_ps(y), to_y);
      to_z = _mm_add_ps(_mm_loadu_ps(z), to_z);
    }
    _mm_storeu_ps(y, to_y);
    _mm_storeu_ps(z, to_z);
  }
  static float sum_lanes(F a) {
    const __m256 half = fold(a);
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
  }
  static float max_lane(F a) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 best = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    best = _mm_max_ps(best, _mm_movehl_ps(best, best));
    return _mm_cvtss_f32(_mm_max_ss(best, _mm_shuffle_ps(best, best, 1)));
  }

  static I splat_int(int32_t x) { return (I)_mm512_set1_epi32(x); }
  static I load_int(const void* p) { return (I)_mm512_loadu_epi16(p); }
  static I add_int(I a, I b) { return (I)_mm512_add_epi32((__m512i)a, (__m512i)b); }
  static F from_int(I a) { return _mm512_cvtepi32_ps((__m512i)a); }
  static F load_int8(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static void store_int8(int8_t* p, F a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
  }
  static I begin_nibbles(I acc) { return acc; }
  static I add_nibbles(I sums, I w, I x) { return dot_nibbles(sums, w, x); }
  static I end_nibbles(I /*acc*/, I sums) { return sums; }
  static I low_nibbles(I a) { return (I)_mm512_and_si512((__m512i)a, _mm512_set1_epi32(0x0f0f0f0f)); }
  static I high_nibbles(I a) { return low_nibbles((I)_mm512_srli_epi32((__m512i)a, 4)); }
  static void store_int(void* p, I a) { _mm512_storeu_epi16(p, (__m512i)a); }
  // Bytes from 0 to 15 to bytes from -8 to 7.
  static I nibbles_to_signed(I a) {
    return (I)_mm512_mask_sub_epi8((__m512i)a, ~__mmask64{0}, (__m512i)a, _mm512_set1_epi32(0x08080808));
  }
#ifdef FOVEA_VNNI
  // The instruction wants one side unsigned: w + 128.
  static constexpr int kByteOffset = 128;
  static I bytes_for_dot(I w) {
    return (I)_mm512_xor_si512((__m512i)w, _mm512_set1_epi32(static_cast<int>(0x80808080)));
  }
  static I dot_bytes(I acc, I w, I x) { return (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x); }
  static I dot_nibbles(I acc, I w, I x) {
    return (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
  }
#else
  // Products of |x| and w with the sign of x: pairs reach 2 * 127 * 127, within 16 bits.
  static constexpr int kByteOffset = 0;
  static I bytes_for_dot(I w) { return w; }
  static I dot_bytes(I acc, I w, I x) {
    const __m512i from = (__m512i)w, sign = (__m512i)x;
    const __m512i signed_w =
        _mm512_mask_sub_epi8(from, _mm512_movepi8_mask(sign), _mm512_set1_epi32(0), from);
    return dot_nibbles(acc, (I)_mm512_abs_epi8(sign), (I)signed_w);
  }
  static I dot_nibbles(I acc, I w, I x) {
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)w, (__m512i)x);
    return (I)_mm512_add_epi32((__m512i)acc, _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00010001)));
  }
#endif

#ifdef FOVEA_BF16_DOT
  // Lane r = the lanes of row(r), r < 8, joined in the tree of sum_lanes.
  template <typename Row, typename Join>
  __attribute__((always_inline)) static F join_lanes(Row row, Join join) {
    F halves[4], whole[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const F a = row(2 * i), b = row(2 * i + 1);
      halves[i] = join(quarters<0x44>(a, b), quarters<0xee>(a, b));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const F a = halves[2 * i], b = halves[2 * i + 1];
      whole[i] = join(quarters<0x88>(a, b), quarters<0xdd>(a, b));
    }
    const F pairs =
        join(_mm512_shuffle_ps(whole[0], whole[1], 0x44), _mm512_shuffle_ps(whole[0], whole[1], 0xee));
    const F single = join(_mm512_shuffle_ps(pairs, pairs, 0x88), _mm512_shuffle_ps(pairs, pairs, 0xdd));
    // Quarter j has row j and row 4 + j in turn.
    return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0), single);
  }
  // Lane r = max_lane, or sum_lanes, of a[r]; kRows <= 8.
  template <int kRows>
  static F max_rows(const F (&a)[kRows]) {
    return join_lanes([&](int r) { return a[r < kRows ? r : kRows - 1]; }, max);
  }
  template <int kRows>
  static F sum_rows(const F (&a)[kRows]) {
    return join_lanes([&](int r) { return a[r < kRows ? r : kRows - 1]; }, add);
  }
  using Pairs = __m512bh;  // 32 bf16
  static Pairs load_pairs(const uint16_t* p) { return (Pairs)_mm512_loadu_epi16(p); }
  static Pairs load_pairs(const uint16_t* p, int count) {
    return (Pairs)_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ull << count) - 1ull), p);
  }
  // The pair at p in every lane.
  static Pairs splat_pair(const uint16_t* p) {
    int pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return (Pairs)_mm512_set1_epi32(pair);
  }
  // acc[i] += a[2i] * b[2i] + a[2i + 1] * b[2i + 1]; products are exact in f32.
  static F dot_pairs(F acc, Pairs a, Pairs b) { return _mm512_dpbf16_ps(acc, a, b); }
  // p[i] = a[i], p[16 + i] = b[i], rounded to nearest even.
  static void store_two_bf16(uint16_t* p, F a, F b) {
    _mm512_storeu_epi16(p, (__m512i)_mm512_cvtne2ps_pbh(b, a));
  }
  // out[i] = elements i, i + 1 of a and of b in turn, in the order of woven vectors: quarters 0 and 2 of
  // every 32 columns, then 1 and 3; of 16 columns: as they are.
  static void weave(const uint16_t* a, const uint16_t* b, Pairs (&out)[2]) {
    const __m512i x = _mm512_loadu_epi16(a), y = _mm512_loadu_epi16(b);
    out[0] = (Pairs)_mm512_unpacklo_epi16(x, y);
    out[1] = (Pairs)_mm512_unpackhi_epi16(x, y);
  }
  static void weave(const uint16_t* a, const uint16_t* b, Pairs (&out)[1]) {
    const __m512i even = _mm512_cvtepu16_epi32(load_u16(a)), odd = _mm512_cvtepu16_epi32(load_u16(b));
    out[0] = (Pairs)_mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
  }
  // p[2i] = a[i], p[2i + 1] = b[i], for 16 columns.
  static void interleave(const uint16_t* a, const uint16_t* b, uint16_t* p) {
    Pairs woven[1];
    weave(a, b, woven);
    _mm512_storeu_epi16(p, (__m512i)woven[0]);
  }
  static void load_woven(const float* p, F (&out)[2]) {
    const F x = load(p), y = load(p + kWidth);
    out[0] = quarters<0x88>(x, y);
    out[1] = quarters<0xdd>(x, y);
  }
  static void load_woven(const float* p, F (&out)[1]) { out[0] = load(p); }
  static void store_woven(float* p, const F (&a)[2]) {
    const F low = quarters<0x44>(a[0], a[1]), high = quarters<0xee>(a[0], a[1]);
    store(p, quarters<0xd8>(low, low));
    store(p + kWidth, quarters<0xd8>(high, high));
  }
  static void store_woven(float* p, const F (&a)[1]) { store(p, a[0]); }

  // out[i], lane r = element i of 32 bits of row r, for 16 rows, load(r), of which the first kColumns (8 or
  // 16) elements are wanted: four rows at a time by pairs of rows and of pairs, then quarters. As floats: gcc
  // 12 passes integers through memory here.
  template <int kColumns, typename Load>
  __attribute__((always_inline)) static void transpose(Load load, F (&out)[kColumns]) {
    F a[16];
#pragma GCC unroll 4
    for (int r = 0; r < 16; r += 4) {
      const F row0 = load(r), row1 = load(r + 1), row2 = load(r + 2), row3 = load(r + 3);
      const F low0 = _mm512_unpacklo_ps(row0, row1), high0 = _mm512_unpackhi_ps(row0, row1),
              low1 = _mm512_unpacklo_ps(row2, row3), high1 = _mm512_unpackhi_ps(row2, row3);
      a[r] = _mm512_shuffle_ps(low0, low1, 0x44);
      a[r + 1] = _mm512_shuffle_ps(low0, low1, 0xee);
      a[r + 2] = _mm512_shuffle_ps(high0, high1, 0x44);
      a[r + 3] = _mm512_shuffle_ps(high0, high1, 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {  // a[4 j + c] holds columns c, 4 + c, 8 + c, 12 + c of rows 4 j to 4 j + 3
      const F low0 = quarters<0x88>(a[c], a[4 + c]), low1 = quarters<0x88>(a[8 + c], a[12 + c]),
              high0 = quarters<0xdd>(a[c], a[4 + c]), high1 = quarters<0xdd>(a[8 + c], a[12 + c]);
      out[c] = quarters<0x88>(low0, low1);
      out[4 + c] = quarters<0x88>(high0, high1);
      if constexpr (kColumns == 16) {
        out[8 + c] = quarters<0xdd>(low0, low1);
        out[12 + c] = quarters<0xdd>(high0, high1);
      }
    }
  }
  // out[i * to + r] = in[r * from + i] for kColumns columns of 16 rows of elements of 32 bits.
  template <int kColumns = 16>
  static void transpose_16(const void* in, int64_t from, void* out, int64_t to) {
    F columns[kColumns];
    transpose(
        [&](int r) {
          const float* row = static_cast<const float*>(in) + r * from;
          return kColumns == 16 ? load(row) : load(row, kColumns);
        },
        columns);
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; ++c) store(static_cast<float*>(out) + c * to, columns[c]);
  }
  // out[i], lane r = pair i of row r, for 16 rows of 16 pairs, `stride` elements apart.
  __attribute__((always_inline)) static void turn(const uint16_t* rows, int64_t stride, Pairs (&out)[16]) {
    F columns[16];
    transpose([&](int r) { return load(reinterpret_cast<const float*>(rows + r * stride)); }, columns);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) out[i] = (Pairs)_mm512_castps_si512(columns[i]);
  }
#endif
};

}  // namespace
}  // namespace fovea
