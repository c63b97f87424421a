// The kernels themselves, written once over the including file's Simd.
#pragma once

#include <type_traits>

#include "kernels/kernels.h"

namespace fovea {
namespace {

#include "kernels/products-inl.h"

// ---- y[m, n] += sum_k p[m, k] v[k, n]
// -------------------------------------------------------------------------

template <int kRows, int kVectors>
void tile_nn(const float* p, int64_t ldp, const float* v, int64_t ldv, float* y, int64_t ldy, int64_t k) {
  constexpr int kWidth = Simd::kWidth;
  Simd::F acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::load(y + r * ldy + c * kWidth);
  }
  for (int64_t at = 0; at < k; ++at) {
    Simd::F vs[kVectors];
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) vs[c] = Simd::load(v + at * ldv + c * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Simd::F weight = Simd::splat(p[r * ldp + at]);
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) acc[r][c] = Simd::fma(weight, vs[c], acc[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) Simd::store(y + r * ldy + c * kWidth, acc[r][c]);
  }
}

inline void edge_nn(const float* p, int64_t ldp, const float* v, int64_t ldv, float* y, int64_t ldy,
                    int64_t rows, int count, int64_t k) {
  for (int64_t r = 0; r < rows; ++r) {
    Simd::F acc = Simd::load(y + r * ldy, count);
    for (int64_t at = 0; at < k; ++at) {
      acc = Simd::fma(Simd::splat(p[r * ldp + at]), Simd::load(v + at * ldv, count), acc);
    }
    Simd::store(y + r * ldy, acc, count);
  }
}

template <int kRows>
void matmul_nn(const float* p, int64_t ldp, const float* v, int64_t ldv, float* y, int64_t ldy, int64_t rows,
               int64_t cols, int64_t k) {
  constexpr int kVectors = Simd::kOuterVectors, kWidth = Simd::kWidth;
  int64_t m = 0;
  for (; m + kRows <= rows; m += kRows) {
    const float* pm = p + m * ldp;
    float* ym = y + m * ldy;
    int64_t n = 0;
    for (; n + kVectors * kWidth <= cols; n += kVectors * kWidth) {
      tile_nn<kRows, kVectors>(pm, ldp, v + n, ldv, ym + n, ldy, k);
    }
    for (; n + kWidth <= cols; n += kWidth) tile_nn<kRows, 1>(pm, ldp, v + n, ldv, ym + n, ldy, k);
    if (n < cols) edge_nn(pm, ldp, v + n, ldv, ym + n, ldy, kRows, static_cast<int>(cols - n), k);
  }
  if constexpr (kRows > 1) {
    if (m < rows) matmul_nn<kRows / 2>(p + m * ldp, ldp, v, ldv, y + m * ldy, ldy, rows - m, cols, k);
  }
}

// ---- conversions
// ------------------------------------------------------------------------------------------------

template <auto kVector, auto kPartial>
void widen_all(const uint16_t* in, float* out, int64_t count) {
  int64_t i = 0;
  for (; i + Simd::kWidth <= count; i += Simd::kWidth) Simd::store(out + i, kVector(in + i));
  if (i < count)
    Simd::store(out + i, kPartial(in + i, static_cast<int>(count - i)), static_cast<int>(count - i));
}

inline void f32_from_bf16_all(const uint16_t* in, float* out, int64_t count) {
  widen_all<[](const uint16_t* p) { return Simd::load_bf16(p); },
            [](const uint16_t* p, int n) { return Simd::load_bf16(p, n); }>(in, out, count);
}
inline void f32_from_f16_all(const uint16_t* in, float* out, int64_t count) {
  widen_all<[](const uint16_t* p) { return Simd::load_f16(p); },
            [](const uint16_t* p, int n) { return Simd::load_f16(p, n); }>(in, out, count);
}
inline void f32_from_int8_all(const int8_t* in, float scale, float* out, int64_t count) {
  int64_t i = 0;
  for (; i + Simd::kWidth <= count; i += Simd::kWidth) {
    Simd::store(out + i, Simd::mul(Simd::load_int8(in + i), Simd::splat(scale)));
  }
  for (; i < count; ++i) out[i] = scale * static_cast<float>(in[i]);
}
inline void F32Bf16::widen(const W* in, float* out, int64_t count) { f32_from_bf16_all(in, out, count); }
inline void F32F16::widen(const W* in, float* out, int64_t count) { f32_from_f16_all(in, out, count); }

template <auto kStore>
void narrow_all(const float* in, uint16_t* out, int64_t count) {
  int64_t i = 0;
  for (; i + Simd::kWidth <= count; i += Simd::kWidth) kStore(out + i, Simd::load(in + i));
  if (i == count) return;
  uint16_t lanes[Simd::kWidth];
  kStore(lanes, Simd::load(in + i, static_cast<int>(count - i)));
  for (int64_t l = 0; i + l < count; ++l) out[i + l] = lanes[l];
}

inline void bf16_from_f32_all(const float* in, uint16_t* out, int64_t count) {
  narrow_all<[](uint16_t* p, Simd::F a) { Simd::store_bf16(p, a); }>(in, out, count);
}
inline void f16_from_f32_all(const float* in, uint16_t* out, int64_t count) {
  narrow_all<[](uint16_t* p, Simd::F a) { Simd::store_f16(p, a); }>(in, out, count);
}

template <typename Fn>
void map_in_place(float* x, int64_t count, Fn fn) {
  int64_t i = 0;
  for (; i + Simd::kWidth <= count; i += Simd::kWidth) Simd::store(x + i, fn(Simd::load(x + i)));
  const int rest = static_cast<int>(count - i);
  if (rest > 0) Simd::store(x + i, fn(Simd::load(x + i, rest)), rest);
}

inline void round_bf16_all(float* x, int64_t count) {
  map_in_place(x, count, [](Simd::F a) { return Simd::round_bf16(a); });
}
inline Simd::F round_f16_of(Simd::F a) {
  uint16_t lanes[Simd::kWidth];
  Simd::store_f16(lanes, a);
  return Simd::load_f16(lanes);
}
inline void round_f16_all(float* x, int64_t count) { map_in_place(x, count, round_f16_of); }

// ---- softmax parts
// ----------------------------------------------------------------------------------------------

inline float max_value_of(const float* x, int64_t count) {
  constexpr float kLowest = -__builtin_inff();
  Simd::F best = Simd::splat(kLowest);
  int64_t i = 0;
  for (; i + Simd::kWidth <= count; i += Simd::kWidth) best = Simd::max(best, Simd::load(x + i));
  float result = Simd::max_lane(best);
  for (; i < count; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// exp(a) = 2^n e^r with n = round(a / ln 2), |r| <= ln(2) / 2; ln 2 is split in two so that r is exact to f32
// (Cody and Waite). The polynomial is the Taylor series to r^7: its remainder, r^8 / 8!, is below 2^-27.
// Above 89 everything is 2^128, infinity; NaN, as the second operand of min, stays.
inline Simd::F exp_of(Simd::F argument) {
  const Simd::F a = Simd::min(Simd::splat(89.f), argument);
  const Simd::F n = Simd::round_to_integer(Simd::mul(a, Simd::splat(1.44269504f)));
  const Simd::F r = Simd::fma(n, Simd::splat(2.12194440e-4f), Simd::fma(n, Simd::splat(-0.693359375f), a));
  Simd::F p = Simd::splat(1.f / 5040);
  for (const float c : {1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1.f, 1.f})
    p = Simd::fma(p, r, Simd::splat(c));
  return Simd::zero_where_less(a, Simd::splat(-87.3f), Simd::mul(p, Simd::power_of_two(n)));
}

inline float lanes_sum(Simd::F a) {
  float total[4];
  const Simd::F zero = Simd::splat(0.f);
  Simd::sum4(a, zero, zero, zero, total);
  return total[0];
}

inline float exp_sum_of(float* x, int64_t count, float scale, float shift) {
  const Simd::F factor = Simd::splat(scale), offset = Simd::splat(-shift);
  Simd::F sum = Simd::splat(0.f);
  int64_t i = 0;
  for (; i + Simd::kWidth <= count; i += Simd::kWidth) {
    const Simd::F e = exp_of(Simd::fma(Simd::load(x + i), factor, offset));
    Simd::store(x + i, e);
    sum = Simd::add(sum, e);
  }
  if (i < count) {
    const int rest = static_cast<int>(count - i);
    Simd::store(x + i, exp_of(Simd::fma(Simd::load(x + i, rest), factor, offset)), rest);
    sum = Simd::add(sum, Simd::load(x + i, rest));
  }
  return lanes_sum(sum);
}

#include "kernels/blocks-inl.h"
#include "kernels/elementwise-inl.h"
#include "kernels/quantized-inl.h"
#ifdef FOVEA_BF16_DOT
#include "kernels/flash-inl.h"
#endif

constexpr Kernels make_kernels(const char* name) {
  Kernels table{};
  table.name = name;
  table.product_cols = 128;
  table.quantized_product_cols = 64;
  table.matmul_nt_f32 = matmul_nt<F32F32>;
  table.matmul_nt_bf16 = matmul_nt_widening<F32Bf16>;
  table.matmul_nt_f16 = matmul_nt_widening<F32F16>;
  table.widened_cols = Simd::kMostWidening == INT64_MAX ? 0 : Kernels::kWidenedCols;
#ifdef FOVEA_BF16_DOT
  table.matmul_nt_bf16_bf16 = matmul_nt_bf16_rows;
  table.pack_bf16_rows = pack_bf16_rows;
  table.bf16_depth_unit = Bf16Bf16::kStep;
  table.bf16_scratch = AlignedBlock::kBytes;
  table.flash_tile = flash_tile;
  table.flash_rows = flash_rows;
  table.pack_flash_keys = pack_flash_keys;
  table.pack_flash_values = pack_flash_values;
#endif
  table.quantize_row = quantize_row;
  table.quantize_group = quantize_group;
  table.matmul_int8 = quantized_product<Int8Weights>;
  table.matmul_int4 = quantized_product<Int4Weights>;
  table.matmul_nn_f32 = matmul_nn<Simd::kOuterRows>;
  table.f32_from_bf16 = f32_from_bf16_all;
  table.f32_from_f16 = f32_from_f16_all;
  table.f32_from_int8 = f32_from_int8_all;
  table.bf16_from_f32 = bf16_from_f32_all;
  table.f16_from_f32 = f16_from_f32_all;
  table.round_bf16 = round_bf16_all;
  table.round_f16 = round_f16_all;
  table.max_value = max_value_of;
  table.exp_sum = exp_sum_of;
  table.scale = scale;
  table.sum_of_squares = sum_of_squares;
  table.scale_and_weigh = scale_and_weigh;
  table.add_rounded = add_rounded;
  table.silu_times = silu_times;
  table.rotate = rotate;
  table.all_finite = all_finite;
  table.unpack_blocks = unpack_blocks;
  return table;
}

}  // namespace
}  // namespace fovea
