// The kernels themselves, written once over the including file's Simd.
#pragma once

#include <type_traits>

#include "kernels/kernels.h"

namespace fovea {
namespace {

// ---- how work is cut
// ---------------------------------------------------------------------------------------------

// Calls body(first, height) for strips of at most kMost rows; `height` is a constant. The last two strips
// share what they have, because a strip of one or two rows waits for its weights.
template <int kMost, typename Body>
__attribute__((always_inline)) inline void strip_of(int64_t height, int64_t first, Body& body) {
  if (height == kMost) return body(first, std::integral_constant<int, kMost>{});
  if constexpr (kMost > 1) strip_of<kMost - 1>(height, first, body);
}
template <int kMost, typename Body>
__attribute__((always_inline)) inline void for_strips(int64_t rows, Body body) {
  for (int64_t first = 0, left = rows; left > 0;) {
    const int64_t height = left >= 2 * kMost ? kMost : left > kMost ? (left + 1) / 2 : left;
    strip_of<kMost>(height, first, body);
    first += height;
    left -= height;
  }
}

// Memory that is read next, `rows` rows of `bytes` each, brought to the L2 cache in pieces while `steps`
// steps of other work are done: the first strip of a product would wait for it. Nothing is fetched that would
// drive out what is in use.
class Fetch {
 public:
  Fetch() = default;
  Fetch(const void* at, int64_t rows, int64_t bytes, int64_t stride, int64_t steps) {
    constexpr int64_t kMost = 512 << 10;  // half of the smallest L2 cache among machines with fast products
    if (at == nullptr || steps < 1 || rows * bytes > kMost) return;
    row_ = at_ = static_cast<const char*>(at);
    rows_ = rows;
    bytes_ = bytes;
    stride_ = stride;
    lines_ = (rows * ((bytes + kLine - 1) / kLine) + steps - 1) / steps;
  }
  void some() {
    for (int64_t i = 0; i < lines_ && rows_ > 0; ++i) {
      __builtin_prefetch(at_, 0, 2);
      at_ += kLine;
      if (at_ < row_ + bytes_) continue;
      row_ = at_ = row_ + stride_;
      --rows_;
    }
  }

 private:
  static constexpr int64_t kLine = 64;
  const char *row_ = nullptr, *at_ = nullptr;
  int64_t rows_ = 0, bytes_ = 0, stride_ = 0, lines_ = 0;
};

// ---- y[m, n] = sum_k x[m, k] w[n, k]
// ------------------------------------------------------------------------ Vectors run along k for both
// operands, so neither needs packing and a row of a memory-mapped weight is read as it lies. One accumulator
// per output, summed in blocks of k whose size depends on the operand types alone: the order of every sum is
// the same whatever the tile, which makes results independent of batch and chunk size.

// How an operand pair is loaded and multiplied. kStep: elements of k per vector step. kBlock: elements of k
// per partial sum; a tile's rows of x over one block stay in L1. kFewCols: rows of w that few rows of x read
// at a time, far from each other: a stream each, which the CPU itself fetches ahead. One sum at a time waits
// for its own last step, and neighbouring rows, a multiple of 4 KiB apart, confuse that fetching.
struct F32F32 {
  using X = float;
  using W = float;
  using XVec = Simd::F;
  static constexpr int64_t kStep = Simd::kWidth, kBlock = 1024;
  static constexpr int kFewCols = 4;
  template <typename... Count>
  static XVec load_x(const X* p, Count... count) {
    return Simd::load(p, count...);
  }
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load(p, count...);
  }
  static Simd::F mac(Simd::F acc, XVec x, XVec w) { return Simd::fma(x, w, acc); }
};

struct F32Bf16 : F32F32 {
  using W = uint16_t;
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load_bf16(p, count...);
  }
  static void widen(const W* in, float* out, int64_t count);
};

struct F32F16 : F32F32 {
  using W = uint16_t;
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load_f16(p, count...);
  }
  static void widen(const W* in, float* out, int64_t count);
};

#ifdef FOVEA_BF16_DOT
struct Bf16Bf16 {
  using X = uint16_t;
  using W = uint16_t;
  using XVec = Simd::Pairs;
  static constexpr int64_t kStep = 2 * Simd::kWidth, kBlock = 2048;
  static constexpr int kFewCols = 2;
  template <typename... Count>
  static XVec load_x(const X* p, Count... count) {
    return Simd::load_pairs(p, count...);
  }
  template <typename... Count>
  static XVec load_w(const W* p, Count... count) {
    return Simd::load_pairs(p, count...);
  }
  static Simd::F mac(Simd::F acc, XVec x, XVec w) { return Simd::dot_pairs(acc, x, w); }
};
#endif

// The partial sums of a kRows x kCols tile over at most one block of k, added to y (or stored, for the first
// block).
template <typename Op, int kRows, int kCols>
void tile_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
             int64_t ldy, int64_t k, bool first) {
  constexpr int kTotal = kRows * kCols;
  Simd::F acc[(kTotal + 3) / 4 * 4];
  for (Simd::F& a : acc) a = Simd::splat(0.f);
  const auto step = [&](int64_t at, auto... count) __attribute__((always_inline)) {
    typename Op::XVec ws[kCols];
#pragma GCC unroll 8
    for (int c = 0; c < kCols; ++c) ws[c] = Op::load_w(w + c * ldw + at, count...);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const typename Op::XVec xs = Op::load_x(x + r * ldx + at, count...);
#pragma GCC unroll 8
      for (int c = 0; c < kCols; ++c) acc[r * kCols + c] = Op::mac(acc[r * kCols + c], xs, ws[c]);
    }
  };
  int64_t at = 0;
  for (; at + Op::kStep <= k; at += Op::kStep) step(at);
  if (at < k) step(at, static_cast<int>(k - at));
  constexpr int kPaired = kCols == 4 ? kRows / 2 * 2 : 0;
  if constexpr (kPaired > 0) {
#pragma GCC unroll 3
    for (int r = 0; r < kPaired; r += 2) {
      Simd::sum_pair(acc + r * kCols, acc + (r + 1) * kCols, y + r * ldy, y + (r + 1) * ldy, first);
    }
  }
  float sums[(kTotal + 3) / 4 * 4];
#pragma GCC unroll 8
  for (int i = kPaired * kCols; i < kTotal; i += 4) {
    Simd::sum4(acc[i], acc[i + 1], acc[i + 2], acc[i + 3], sums + i);
  }
  for (int r = kPaired; r < kRows; ++r) {
    for (int c = 0; c < kCols; ++c) {
      float& out = y[r * ldy + c];
      out = first ? sums[r * kCols + c] : out + sums[r * kCols + c];
    }
  }
}

// A strip of kRows rows of x against all rows of w, over one block of k.
template <typename Op, int kRows, int kCols>
void strip_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
              int64_t ldy, int64_t cols, int64_t k, bool first, Fetch& ahead) {
  int64_t n = 0;
  for (; n + kCols <= cols; n += kCols) {
    tile_nt<Op, kRows, kCols>(x, ldx, w + n * ldw, ldw, y + n, ldy, k, first);
    ahead.some();
  }
  if constexpr (kCols > 1) {
    if (n < cols) {
      strip_nt<Op, kRows, kCols / 2>(x, ldx, w + n * ldw, ldw, y + n, ldy, cols - n, k, first, ahead);
    }
  }
}

// One block of k for any number of rows.
template <typename Op>
void block_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
              int64_t ldy, int64_t rows, int64_t cols, int64_t k, bool first, Fetch& ahead) {
  for_strips<Simd::kTileRows>(
      rows, [&](int64_t m, auto height) __attribute__((always_inline)) {
        strip_nt<Op, decltype(height)::value, Simd::kTileCols>(x + m * ldx, ldx, w, ldw, y + m * ldy, ldy,
                                                               cols, k, first, ahead);
      });
}

// kCols columns that lie `apart` rows of w from each other, over the whole depth.
template <typename Op, int kRows, int kCols>
__attribute__((always_inline)) inline void columns_apart_nt(const typename Op::X* x, int64_t ldx,
                                                            const typename Op::W* w, int64_t ldw, float* y,
                                                            int64_t ldy, int64_t apart, int64_t k) {
  for (int64_t at = 0; at < k; at += Op::kBlock) {
    const int64_t k_now = k - at < Op::kBlock ? k - at : Op::kBlock;
    float sums[kRows * kCols];
    tile_nt<Op, kRows, kCols>(x + at, ldx, w + at, apart * ldw, sums, kCols, k_now, true);
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kCols; ++c) {
        float& out = y[r * ldy + c * apart];
        out = at == 0 ? sums[r * kCols + c] : out + sums[r * kCols + c];
      }
    }
  }
}

// Few rows are bound by reading w. Not inlined: its instructions are counted (tools/count_instructions.py).
template <typename Op>
__attribute__((noinline)) void few_rows_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w,
                                           int64_t ldw, float* y, int64_t ldy, int64_t rows, int64_t cols,
                                           int64_t k) {
  for_strips<Simd::kTileRows>(
      rows, [&](int64_t, auto height) __attribute__((always_inline)) {
        constexpr int kRows = decltype(height)::value,
                      kCols = kRows == 1 || Op::kFewCols < Simd::kTileCols ? Op::kFewCols : Simd::kTileCols;
        const int64_t apart = cols / kCols;
        int64_t n = 0;
        for (; n < apart; ++n) {
          columns_apart_nt<Op, kRows, kCols>(x, ldx, w + n * ldw, ldw, y + n, ldy, apart, k);
        }
        for (n = apart * kCols; n < cols; ++n) {
          columns_apart_nt<Op, kRows, 1>(x, ldx, w + n * ldw, ldw, y + n, ldy, 1, k);
        }
      });
}

template <typename Op>
void matmul_nt(const typename Op::X* x, int64_t ldx, const typename Op::W* w, int64_t ldw, float* y,
               int64_t ldy, int64_t rows, int64_t cols, int64_t k) {
  if (k == 0) {
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t n = 0; n < cols; ++n) y[m * ldy + n] = 0.f;
    }
  }
  if (rows <= Simd::kTileRows) return few_rows_nt<Op>(x, ldx, w, ldw, y, ldy, rows, cols, k);
  Fetch none;
  for (int64_t at = 0; at < k; at += Op::kBlock) {
    const int64_t k_now = k - at < Op::kBlock ? k - at : Op::kBlock;
    block_nt<Op>(x + at, ldx, w + at, ldw, y, ldy, rows, cols, k_now, at == 0, none);
  }
}

#ifdef FOVEA_BF16_DOT
// Rows of bf16 as they are, each in whole vectors, so that none lies across two cache lines.
inline int64_t padded_depth(int64_t k) {
  constexpr int64_t kStep = Bf16Bf16::kStep;
  return (k + kStep - 1) / kStep * kStep;
}
// Weights of a block of depth as vectors may read them: as they lie, or copied. Where a tensor begins in a
// checkpoint is a matter of chance, and a vector across two cache lines is read twice, by every strip of
// rows.
class AlignedBlock {
 public:
  static constexpr int64_t kRows = 128, kStride = Bf16Bf16::kBlock + Bf16Bf16::kStep;

  AlignedBlock(const uint16_t* w, int64_t ldw)
      : copies_((reinterpret_cast<uintptr_t>(w) | 2 * ldw) % 64 != 0) {}
  int64_t stride(int64_t ldw) const { return copies_ ? kStride : ldw; }
  const uint16_t* rows(const uint16_t* w, int64_t ldw, int64_t rows, int64_t k) {
    if (!copies_) return w;
    for (int64_t r = 0; r < rows; ++r) {
      __builtin_memcpy(copy_ + r * kStride, w + r * ldw, static_cast<size_t>(2 * k));
    }
    return copy_;
  }

 private:
  bool copies_;
  alignas(64) uint16_t copy_[kRows * kStride];
};

// `next`: rows of w, as long as these, that the thread reads next.
inline void matmul_nt_bf16_rows(const uint16_t* x, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                                int64_t rows, int64_t cols, int64_t k, Upcoming next) {
  const int64_t ldx = padded_depth(k);
  if (rows <= Simd::kTileRows || k == 0) {
    matmul_nt<Bf16Bf16>(x, ldx, w, ldw, y, ldy, rows, cols, k);
    return;
  }
  constexpr int64_t kBlock = Bf16Bf16::kBlock, kGroup = AlignedBlock::kRows;
  AlignedBlock block(w, ldw);
  for (int64_t n = 0; n < cols; n += kGroup) {
    const int64_t cols_now = cols - n < kGroup ? cols - n : kGroup;
    const int64_t tiles = rows / Simd::kTileRows * (cols_now / Simd::kTileCols);
    for (int64_t at = 0; at < k; at += kBlock) {
      const int64_t left = k - at, k_now = left < kBlock ? left : kBlock, beyond = left - k_now;
      const uint16_t* from = w + n * ldw + at;
      Fetch ahead =
          beyond > 0 ? Fetch(from + k_now, cols_now, 2 * (beyond < kBlock ? beyond : kBlock), 2 * ldw, tiles)
                     : Fetch(next.at, next.bytes / (2 * ldw), 2 * (k < kBlock ? k : kBlock), 2 * ldw, tiles);
      block_nt<Bf16Bf16>(x + at, ldx, block.rows(from, ldw, cols_now, k_now), block.stride(ldw), y + n, ldy,
                         rows, cols_now, k_now, at == 0, ahead);
    }
  }
}
inline void bf16_from_f32_all(const float* in, uint16_t* out, int64_t count);
inline void pack_bf16_rows(const float* x, int64_t ldx, int64_t rows, int64_t k, uint16_t* out) {
  for (int64_t r = 0; r < rows; ++r) bf16_from_f32_all(x + r * ldx, out + r * padded_depth(k), k);
}
#endif

// 16-bit weights against many rows: each block of w is widened once into scratch that fits the L2 cache.
template <typename Op>
void matmul_nt_widening(const float* x, int64_t ldx, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                        int64_t rows, int64_t cols, int64_t k) {
  if (rows <= Simd::kTileRows || k == 0) {
    matmul_nt<Op>(x, ldx, w, ldw, y, ldy, rows, cols, k);
    return;
  }
  constexpr int64_t kGroup = 48;
  Fetch none;
  alignas(64) float wide[kGroup * Op::kBlock];
  for (int64_t n = 0; n < cols; n += kGroup) {
    const int64_t cols_now = cols - n < kGroup ? cols - n : kGroup;
    for (int64_t at = 0; at < k; at += Op::kBlock) {
      const int64_t k_now = k - at < Op::kBlock ? k - at : Op::kBlock;
      for (int64_t c = 0; c < cols_now; ++c) Op::widen(w + (n + c) * ldw + at, wide + c * Op::kBlock, k_now);
      block_nt<F32F32>(x + at, ldx, wide, Op::kBlock, y + n, ldy, rows, cols_now, k_now, at == 0, none);
    }
  }
}

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
#ifdef FOVEA_BF16_DOT
  table.matmul_nt_bf16_bf16 = matmul_nt_bf16_rows;
  table.pack_bf16_rows = pack_bf16_rows;
  table.bf16_depth_unit = Bf16Bf16::kStep;
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
  return table;
}

}  // namespace
}  // namespace fovea
