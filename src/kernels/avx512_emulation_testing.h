// Plain C++ with the documented meaning (Intel SDM volume 2) of exactly the AVX-512 intrinsics that
// simd_avx512.h uses. Include it after <immintrin.h> and the standard headers, and before simd_avx512.h: its
// macros then make the real kernel sources run on any AVX2 machine. An intrinsic missing here does not
// compile without -mavx512f.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace fovea::emulated {

struct M512 {
  float lane[16];
};
struct M512i {
  uint32_t lane[16];
};
struct M512bh {
  uint16_t lane[32];
  M512bh() = default;
  explicit M512bh(const M512i& bits) { std::memcpy(lane, bits.lane, sizeof lane); }
  explicit operator M512i() const {
    M512i bits;
    std::memcpy(bits.lane, lane, sizeof lane);
    return bits;
  }
};

template <typename Vector, typename Fn>
inline Vector each(Fn fn) {
  Vector result;
  for (int i = 0; i < 16; ++i) result.lane[i] = fn(i);
  return result;
}
inline bool has(uint32_t mask, int i) { return (mask >> i & 1u) != 0; }

// ---- moves
// ------------------------------------------------------------------------------------------------------

inline M512 set1_ps(float x) {
  return each<M512>([&](int) { return x; });
}
inline M512 setzero_ps() { return set1_ps(0.f); }
inline M512i set1_epi32(int x) {
  return each<M512i>([&](int) { return static_cast<uint32_t>(x); });
}
inline M512 loadu_ps(const void* p) {
  M512 result;
  std::memcpy(result.lane, p, sizeof result.lane);
  return result;
}
inline void storeu_ps(void* p, const M512& a) { std::memcpy(p, a.lane, sizeof a.lane); }
// Lanes that the mask clears are neither read nor written, so they cannot fault.
inline M512 maskz_loadu_ps(__mmask16 mask, const void* p) {
  M512 result = setzero_ps();
  for (int i = 0; i < 16; ++i) {
    if (has(mask, i)) std::memcpy(&result.lane[i], static_cast<const char*>(p) + 4 * i, 4);
  }
  return result;
}
inline void mask_storeu_ps(void* p, __mmask16 mask, const M512& a) {
  for (int i = 0; i < 16; ++i) {
    if (has(mask, i)) std::memcpy(static_cast<char*>(p) + 4 * i, &a.lane[i], 4);
  }
}
inline M512i loadu_epi16(const void* p) {
  M512i result;
  std::memcpy(result.lane, p, sizeof result.lane);
  return result;
}
inline M512i maskz_loadu_epi16(__mmask32 mask, const void* p) {
  uint16_t lanes[32] = {};
  for (int i = 0; i < 32; ++i) {
    if (has(mask, i)) std::memcpy(&lanes[i], static_cast<const char*>(p) + 2 * i, 2);
  }
  return loadu_epi16(lanes);
}
inline void storeu_epi16(void* p, const M512i& a) { std::memcpy(p, a.lane, sizeof a.lane); }
// In each 128-bit lane: elements 0, 0, 1, 1 of a and b in turn (the low half), or 2, 2, 3, 3.
inline M512 unpack_ps(const M512& a, const M512& b, int high) {
  return each<M512>([&](int i) { return (i % 2 ? b : a).lane[i / 4 * 4 + 2 * high + i % 4 / 2]; });
}
inline M512 unpacklo_ps(const M512& a, const M512& b) { return unpack_ps(a, b, 0); }
inline M512 unpackhi_ps(const M512& a, const M512& b) { return unpack_ps(a, b, 1); }
// The same of elements of 16 bits: 0, 0, 1, 1, 2, 2, 3, 3, or 4 to 7.
inline M512i unpack_epi16(const M512i& a, const M512i& b, int high) {
  return each<M512i>([&](int i) {
    const int element = i % 4 + 4 * high, lane = i / 4 * 4 + element / 2, shift = element % 2 * 16;
    return (a.lane[lane] >> shift & 0xffffu) | (b.lane[lane] >> shift << 16);
  });
}
inline M512i unpacklo_epi16(const M512i& a, const M512i& b) { return unpack_epi16(a, b, 0); }
inline M512i unpackhi_epi16(const M512i& a, const M512i& b) { return unpack_epi16(a, b, 1); }
inline M512i setr_epi32(int e0, int e1, int e2, int e3, int e4, int e5, int e6, int e7, int e8, int e9,
                        int e10, int e11, int e12, int e13, int e14, int e15) {
  const int all[] = {e0, e1, e2, e3, e4, e5, e6, e7, e8, e9, e10, e11, e12, e13, e14, e15};
  return each<M512i>([&](int i) { return static_cast<uint32_t>(all[i]); });
}
inline M512 permutexvar_ps(const M512i& index, const M512& a) {
  return each<M512>([&](int i) { return a.lane[index.lane[i] % 16]; });
}
// 128-bit lanes by two bits each: the first two from a, the others from b.
inline M512 shuffle_f32x4(const M512& a, const M512& b, int control) {
  return each<M512>([&](int i) { return (i < 8 ? a : b).lane[(control >> (i / 4 * 2) & 3) * 4 + i % 4]; });
}
inline M512 shuffle_ps(const M512& a, const M512& b, int control) {
  return each<M512>(
      [&](int i) { return (i % 4 < 2 ? a : b).lane[i / 4 * 4 + (control >> (i % 4 * 2) & 3)]; });
}
inline M512 castsi512_ps(const M512i& a) {
  return each<M512>([&](int i) { return std::bit_cast<float>(a.lane[i]); });
}
inline M512i castps_si512(const M512& a) {
  return each<M512i>([&](int i) { return std::bit_cast<uint32_t>(a.lane[i]); });
}
inline __m256 extractf32x8_ps(const M512& a, int half) { return _mm256_loadu_ps(a.lane + 8 * (half & 1)); }
inline __m256 castps512_ps256(const M512& a) { return extractf32x8_ps(a, 0); }

// ---- integers
// -----------------------------------------------------------------------------------------------------

inline M512i and_si512(const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) { return a.lane[i] & b.lane[i]; });
}
inline M512i or_si512(const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) { return a.lane[i] | b.lane[i]; });
}
inline M512i add_epi32(const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline M512i slli_epi32(const M512i& a, unsigned count) {
  return each<M512i>([&](int i) { return count > 31 ? 0u : a.lane[i] << count; });
}
inline M512i srli_epi32(const M512i& a, unsigned count) {
  return each<M512i>([&](int i) { return count > 31 ? 0u : a.lane[i] >> count; });
}
inline M512i cvtepu16_epi32(__m256i a) {
  uint16_t lanes[16];
  std::memcpy(lanes, &a, sizeof lanes);
  return each<M512i>([&](int i) { return uint32_t{lanes[i]}; });
}
inline __m256i cvtepi32_epi16(const M512i& a) {
  uint16_t lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = static_cast<uint16_t>(a.lane[i]);
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes));
}
inline M512i mask_blend_epi32(__mmask16 mask, const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) { return has(mask, i) ? b.lane[i] : a.lane[i]; });
}

// ---- f32 arithmetic
// -------------------------------------------------------------------------------------------------

inline M512 add_ps(const M512& a, const M512& b) {
  return each<M512>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline M512 div_ps(const M512& a, const M512& b) {
  return each<M512>([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline M512 mul_ps(const M512& a, const M512& b) {
  return each<M512>([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline M512 fmadd_ps(const M512& a, const M512& b, const M512& c) {
  return each<M512>([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
// The second operand when either is NaN or both are zeros.
inline M512 max_ps(const M512& a, const M512& b) {
  return each<M512>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline M512 min_ps(const M512& a, const M512& b) {
  return each<M512>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// a * 2^floor(b), rounded once; NaN when either is.
inline M512 scalef_ps(const M512& a, const M512& b) {
  return each<M512>([&](int i) {
    const float power = std::floor(b.lane[i]);
    if (std::isnan(power)) return power;
    return std::ldexp(a.lane[i], static_cast<int>(std::fmin(std::fmax(power, -1000.f), 1000.f)));
  });
}
inline M512 mask_blend_ps(__mmask16 mask, const M512& a, const M512& b) {
  return each<M512>([&](int i) { return has(mask, i) ? b.lane[i] : a.lane[i]; });
}
inline __mmask16 cmp_ps_mask(const M512& a, const M512& b, int predicate) {
  uint32_t mask = 0;
  for (int i = 0; i < 16; ++i) {
    const float x = a.lane[i], y = b.lane[i];
    bool holds = false;
    switch (predicate) {
      case _CMP_UNORD_Q:
        holds = x != x || y != y;
        break;
      case _CMP_LT_OQ:
        holds = x < y;
        break;
      default:
        std::abort();
    }
    mask |= static_cast<uint32_t>(holds) << i;
  }
  return static_cast<__mmask16>(mask);
}
// Only the control 0 (no scaling, round to nearest even) is used.
inline M512 roundscale_ps(const M512& a, int control) {
  if (control != _MM_FROUND_TO_NEAREST_INT) std::abort();
  return each<M512>([&](int i) { return std::nearbyint(a.lane[i]); });
}
// Round to nearest even under the default MXCSR; "integer indefinite" for NaN and what does not fit.
inline M512i cvtps_epi32(const M512& a) {
  return each<M512i>([&](int i) {
    const float rounded = std::nearbyint(a.lane[i]);
    const bool fits = rounded >= -0x1p31f && rounded < 0x1p31f;
    return fits ? static_cast<uint32_t>(static_cast<int32_t>(rounded)) : 0x80000000u;
  });
}

// ---- 16-bit floats
// --------------------------------------------------------------------------------------------------

// VCVTPH2PS ignores DAZ: subnormal halves become normal floats; a signalling NaN becomes quiet.
inline float f32_from_half(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16, exponent = bits >> 10 & 31u, fraction = bits & 0x3ffu;
  if (exponent == 31) {
    return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13) | (fraction != 0 ? 0x400000u : 0u));
  }
  const float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                    : std::ldexp(static_cast<float>(fraction + 1024), static_cast<int>(exponent) - 25);
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}
// Round to nearest even by arithmetic: the quotient by the spacing of halves around the value is exact.
inline uint16_t half_from_f32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  if (value != value) return static_cast<uint16_t>(sign | 0x7e00u | (bits >> 13 & 0x3ffu));
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.f) return static_cast<uint16_t>(sign | 0x7c00u);
  int exponent = static_cast<int>(bits >> 23 & 255u) - 127;
  if (exponent < -14) exponent = -14;
  const auto steps =
      static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));  // 0 .. 2048
  return static_cast<uint16_t>(sign | (static_cast<uint32_t>(exponent + 14) * 1024 + steps));
}
inline M512 cvtph_ps(__m256i a) {
  uint16_t lanes[16];
  std::memcpy(lanes, &a, sizeof lanes);
  return each<M512>([&](int i) { return f32_from_half(lanes[i]); });
}
inline __m256i cvtps_ph(const M512& a, int rounding) {
  if (rounding != _MM_FROUND_TO_NEAREST_INT) std::abort();
  uint16_t lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = half_from_f32(a.lane[i]);
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes));
}

// ---- bytes
inline M512i xor_si512(const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) { return a.lane[i] ^ b.lane[i]; });
}
inline M512 cvtepi32_ps(const M512i& a) {
  return each<M512>([&](int i) { return static_cast<float>(static_cast<int32_t>(a.lane[i])); });
}
inline M512i cvtepi8_epi32(__m128i a) {
  alignas(16) int8_t lanes[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(lanes), a);
  return each<M512i>([&](int i) { return static_cast<uint32_t>(int32_t{lanes[i]}); });
}
inline __m128i cvtepi32_epi8(const M512i& a) {
  alignas(16) uint8_t lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = static_cast<uint8_t>(a.lane[i]);
  return _mm_load_si128(reinterpret_cast<const __m128i*>(lanes));
}
inline int byte_of(const M512i& a, int i) { return static_cast<int>(a.lane[i / 4] >> (i % 4 * 8) & 0xffu); }
inline int signed_byte_of(const M512i& a, int i) { return static_cast<int8_t>(byte_of(a, i)); }
inline M512i each_byte(const auto& fn) {
  M512i result{};
  for (int i = 0; i < 64; ++i) {
    result.lane[i / 4] |= (static_cast<uint32_t>(fn(i)) & 0xffu) << (i % 4 * 8);
  }
  return result;
}
inline M512i abs_epi8(const M512i& a) {
  return each_byte([&](int i) { return std::abs(signed_byte_of(a, i)); });
}
inline uint64_t movepi8_mask(const M512i& a) {
  uint64_t mask = 0;
  for (int i = 0; i < 64; ++i) mask |= static_cast<uint64_t>(byte_of(a, i) >> 7) << i;
  return mask;
}
inline M512i mask_sub_epi8(const M512i& from, uint64_t mask, const M512i& a, const M512i& b) {
  return each_byte(
      [&](int i) { return (mask >> i & 1u) != 0 ? byte_of(a, i) - byte_of(b, i) : byte_of(from, i); });
}
// VPMADDUBSW: pairs saturate to 16 bits.
inline int saturated_pair(const M512i& a, const M512i& b, int i) {
  const int sum =
      byte_of(a, 2 * i) * signed_byte_of(b, 2 * i) + byte_of(a, 2 * i + 1) * signed_byte_of(b, 2 * i + 1);
  return sum < -32768 ? -32768 : sum > 32767 ? 32767 : sum;
}
inline M512i maddubs_epi16(const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) {
    return (static_cast<uint32_t>(saturated_pair(a, b, 2 * i)) & 0xffffu) |
           static_cast<uint32_t>(saturated_pair(a, b, 2 * i + 1)) << 16;
  });
}
inline M512i madd_epi16(const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) {
    const auto word = [i](const M512i& x, int high) {
      return static_cast<int32_t>(static_cast<int16_t>(x.lane[i] >> (16 * high)));
    };
    return static_cast<uint32_t>(word(a, 0) * word(b, 0) + word(a, 1) * word(b, 1));
  });
}
// VPDPBUSD: unsigned bytes of a times signed bytes of b, without saturation.
inline M512i dpbusd_epi32(const M512i& acc, const M512i& a, const M512i& b) {
  return each<M512i>([&](int i) {
    int32_t sum = static_cast<int32_t>(acc.lane[i]);
    for (int j = 4 * i; j < 4 * i + 4; ++j) sum += byte_of(a, j) * signed_byte_of(b, j);
    return static_cast<uint32_t>(sum);
  });
}

// VCVTNE2PS2BF16: the lower half from b. Rounds to nearest even; denormals are taken as zero.
inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.f, x) : x; }
inline M512bh cvtne2ps_pbh(const M512& a, const M512& b) {
  M512bh result;
  for (int i = 0; i < 32; ++i) {
    const float value = flushed(i < 16 ? b.lane[i] : a.lane[i - 16]);
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t near = bits + 0x7fffu + (bits >> 16 & 1u);
    result.lane[i] = static_cast<uint16_t>(value != value ? (bits >> 16 | 0x40u) : near >> 16);
  }
  return result;
}

// VDPBF16PS: two fused multiply-adds per lane, the odd (upper) elements first; each rounds to nearest even,
// takes denormal inputs as zero and flushes a denormal result to zero; MXCSR is not consulted.
inline float flushing_fma(uint16_t a, uint16_t b, float c) {
  const float x = flushed(std::bit_cast<float>(uint32_t{a} << 16));
  const float y = flushed(std::bit_cast<float>(uint32_t{b} << 16));
  return flushed(std::fma(x, y, flushed(c)));
}
inline M512 dpbf16_ps(const M512& acc, const M512bh& a, const M512bh& b) {
  return each<M512>([&](int i) {
    const float upper = flushing_fma(a.lane[2 * i + 1], b.lane[2 * i + 1], acc.lane[i]);
    return flushing_fma(a.lane[2 * i], b.lane[2 * i], upper);
  });
}

}  // namespace fovea::emulated

#define __m512 ::fovea::emulated::M512
#define __m512i ::fovea::emulated::M512i
#define __m512bh ::fovea::emulated::M512bh
#define _mm512_add_epi32 ::fovea::emulated::add_epi32
#define _mm512_add_ps ::fovea::emulated::add_ps
#define _mm512_and_si512 ::fovea::emulated::and_si512
#define _mm512_castps512_ps256 ::fovea::emulated::castps512_ps256
#define _mm512_castps_si512 ::fovea::emulated::castps_si512
#define _mm512_castsi512_ps ::fovea::emulated::castsi512_ps
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask ::fovea::emulated::cmp_ps_mask
#define _mm512_cvtepi32_epi16 ::fovea::emulated::cvtepi32_epi16
#define _mm512_cvtepu16_epi32 ::fovea::emulated::cvtepu16_epi32
#define _mm512_cvtne2ps_pbh ::fovea::emulated::cvtne2ps_pbh
#define _mm512_cvtph_ps ::fovea::emulated::cvtph_ps
#define _mm512_cvtps_epi32 ::fovea::emulated::cvtps_epi32
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph ::fovea::emulated::cvtps_ph
#define _mm512_dpbf16_ps ::fovea::emulated::dpbf16_ps
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps ::fovea::emulated::extractf32x8_ps
#define _mm512_fmadd_ps ::fovea::emulated::fmadd_ps
#define _mm512_loadu_epi16 ::fovea::emulated::loadu_epi16
#define _mm512_loadu_ps ::fovea::emulated::loadu_ps
#define _mm512_mask_blend_epi32 ::fovea::emulated::mask_blend_epi32
#define _mm512_mask_blend_ps ::fovea::emulated::mask_blend_ps
#define _mm512_mask_storeu_ps ::fovea::emulated::mask_storeu_ps
#define _mm512_maskz_loadu_epi16 ::fovea::emulated::maskz_loadu_epi16
#define _mm512_maskz_loadu_ps ::fovea::emulated::maskz_loadu_ps
#define _mm512_max_ps ::fovea::emulated::max_ps
#define _mm512_min_ps ::fovea::emulated::min_ps
#define _mm512_div_ps ::fovea::emulated::div_ps
#define _mm512_mul_ps ::fovea::emulated::mul_ps
#define _mm512_or_si512 ::fovea::emulated::or_si512
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps ::fovea::emulated::roundscale_ps
#define _mm512_scalef_ps ::fovea::emulated::scalef_ps
#define _mm512_set1_epi32 ::fovea::emulated::set1_epi32
#define _mm512_set1_ps ::fovea::emulated::set1_ps
#define _mm512_setzero_ps ::fovea::emulated::setzero_ps
#define _mm512_permutexvar_ps ::fovea::emulated::permutexvar_ps
#undef _mm512_setr_epi32
#define _mm512_setr_epi32 ::fovea::emulated::setr_epi32
#undef _mm512_shuffle_ps
#define _mm512_shuffle_ps ::fovea::emulated::shuffle_ps
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4 ::fovea::emulated::shuffle_f32x4
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 ::fovea::emulated::slli_epi32
#undef _mm512_srli_epi32
#define _mm512_srli_epi32 ::fovea::emulated::srli_epi32
#define _mm512_storeu_epi16 ::fovea::emulated::storeu_epi16
#define _mm512_storeu_ps ::fovea::emulated::storeu_ps
#define _mm512_unpackhi_epi16 ::fovea::emulated::unpackhi_epi16
#define _mm512_unpacklo_epi16 ::fovea::emulated::unpacklo_epi16
#define _mm512_unpackhi_ps ::fovea::emulated::unpackhi_ps
#define _mm512_unpacklo_ps ::fovea::emulated::unpacklo_ps
#define _mm512_abs_epi8 ::fovea::emulated::abs_epi8
#define _mm512_cvtepi32_epi8 ::fovea::emulated::cvtepi32_epi8
#define _mm512_cvtepi8_epi32 ::fovea::emulated::cvtepi8_epi32
#define _mm512_cvtepi32_ps ::fovea::emulated::cvtepi32_ps
#define _mm512_dpbusd_epi32 ::fovea::emulated::dpbusd_epi32
#define _mm512_madd_epi16 ::fovea::emulated::madd_epi16
#define _mm512_maddubs_epi16 ::fovea::emulated::maddubs_epi16
#define _mm512_mask_sub_epi8 ::fovea::emulated::mask_sub_epi8
#define _mm512_movepi8_mask ::fovea::emulated::movepi8_mask
#define _mm512_xor_si512 ::fovea::emulated::xor_si512
