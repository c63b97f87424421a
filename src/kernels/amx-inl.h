// Matrix products on AMX tiles: eight registers of 16 rows x 64 bytes and one instruction that adds the
// product of two of them to a third. Included after kernels-inl.h, whose Simd is AVX-512 here. Intel's
// optimization manual, chapter 20, has the block of 2 x 2 tiles: four loads for four products.
#pragma once

namespace fovea {
namespace {

// gcc does not know how much memory a tile or its configuration is loaded from: what was written before must
// really be there.
inline void before_loading_tiles() { __asm__ volatile("" ::: "memory"); }

// What the tile registers hold until it goes out of scope. Tiles are state of the thread: nobody else may
// find them in use, and the operating system saves them only while they are.
class TileShapes {
 public:
  // Tiles 0 to 3 hold sums and 4, 5 left operands of `rows` rows; 6 and 7 right operands of 16 rows. `tail` >
  // 0 makes 5 a left operand of that many bytes a row, and 7 its partner.
  explicit TileShapes(int64_t rows, int64_t tail = 0) {
    struct {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int t = 0; t < 8; ++t) {
      shape.row_bytes[t] = 64;
      shape.rows[t] = static_cast<uint8_t>(t < 6 ? rows : 16);
    }
    if (tail > 0) {
      shape.row_bytes[5] = static_cast<uint16_t>(tail);
      shape.rows[7] = static_cast<uint8_t>(tail / 4);
    }
    before_loading_tiles();
    _tile_loadconfig(&shape);
  }
  ~TileShapes() { _tile_release(); }
  TileShapes(const TileShapes&) = delete;
  TileShapes& operator=(const TileShapes&) = delete;
};

constexpr int64_t kSide = 16;  // rows of a tile, and columns of a tile of sums
constexpr int64_t kTileSums = kSide * kSide;
constexpr int64_t kStepsAtOnce = 16;  // tiles of depth: two rows of right operands stay in the L1 cache
constexpr int64_t kBlockRows = 512, kBlockCols = 256;  // whose sums, and one side's operands, stay in L2

struct TileRow {
  const void* data;  // of the first tile
  int64_t stride;    // bytes between its rows
  int64_t next;      // bytes to the next tile of depth
};

// The tiles of kSums' block: sums 0 and 1 belong to right operand 6, 2 and 3 to 7; even ones to left operand
// 4, odd ones to 5. (The intrinsics want literal numbers.)
struct Bf16Tiles {
  template <int kSums>
  static void multiply() {
    if constexpr (kSums == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (kSums == 1) _tile_dpbf16ps(1, 5, 6);
    if constexpr (kSums == 2) _tile_dpbf16ps(2, 4, 7);
    if constexpr (kSums == 3) _tile_dpbf16ps(3, 5, 7);
  }
};
struct Int8Tiles {
  template <int kSums>
  static void multiply() {
    if constexpr (kSums == 0) _tile_dpbssd(0, 4, 6);
    if constexpr (kSums == 1) _tile_dpbssd(1, 5, 6);
    if constexpr (kSums == 2) _tile_dpbssd(2, 4, 7);
    if constexpr (kSums == 3) _tile_dpbssd(3, 5, 7);
  }
};

// Adds the products of `steps` tiles of depth to kLefts x kRights tiles of sums (or stores them, for the
// first). sums: [kRights][kLefts][16 x 16].
template <typename Op, int kLefts, int kRights>
void add_tiles(const TileRow* left, const TileRow* right, int64_t steps, bool first, void* sums) {
  char* to = static_cast<char*>(sums);
  constexpr int64_t kBytes = kTileSums * 4;
  before_loading_tiles();
  if (first) {
    _tile_zero(0);
    if constexpr (kLefts > 1) _tile_zero(1);
    if constexpr (kRights > 1) _tile_zero(2);
    if constexpr (kLefts > 1 && kRights > 1) _tile_zero(3);
  } else {
    _tile_loadd(0, to, 64);
    if constexpr (kLefts > 1) _tile_loadd(1, to + kBytes, 64);
    if constexpr (kRights > 1) _tile_loadd(2, to + kLefts * kBytes, 64);
    if constexpr (kLefts > 1 && kRights > 1) _tile_loadd(3, to + 3 * kBytes, 64);
  }
  const char *l0 = static_cast<const char*>(left[0].data), *r0 = static_cast<const char*>(right[0].data);
  const char *l1 = static_cast<const char*>(left[kLefts - 1].data),
             *r1 = static_cast<const char*>(right[kRights - 1].data);
  for (int64_t i = 0; i < steps; ++i) {
    _tile_loadd(4, l0 + i * left[0].next, left[0].stride);
    _tile_loadd(6, r0 + i * right[0].next, right[0].stride);
    Op::template multiply<0>();
    if constexpr (kRights > 1) {
      _tile_loadd(7, r1 + i * right[kRights - 1].next, right[kRights - 1].stride);
      Op::template multiply<2>();
    }
    if constexpr (kLefts > 1) {
      _tile_loadd(5, l1 + i * left[kLefts - 1].next, left[kLefts - 1].stride);
      Op::template multiply<1>();
      if constexpr (kRights > 1) Op::template multiply<3>();
    }
  }
  _tile_stored(0, to, 64);
  if constexpr (kLefts > 1) _tile_stored(1, to + kBytes, 64);
  if constexpr (kRights > 1) _tile_stored(2, to + kLefts * kBytes, 64);
  if constexpr (kLefts > 1 && kRights > 1) _tile_stored(3, to + 3 * kBytes, 64);
}

template <typename Op>
void add_tiles(const TileRow* left, int64_t lefts, const TileRow* right, int64_t rights, int64_t steps,
               bool first, void* sums) {
  if (lefts > 1) {
    rights > 1 ? add_tiles<Op, 2, 2>(left, right, steps, first, sums)
               : add_tiles<Op, 2, 1>(left, right, steps, first, sums);
  } else {
    rights > 1 ? add_tiles<Op, 1, 2>(left, right, steps, first, sums)
               : add_tiles<Op, 1, 1>(left, right, steps, first, sums);
  }
}

// ---- bf16: the transposed product y^T = w x^T, because w is used as it lies in the file (its rows are left
// operands) and x, which is small, is packed.

constexpr int64_t kBf16Step = 32;  // elements of depth in a tile

// x [rows, k] f32 to bf16 tiles [rows / 16][k / 32][16 pairs][16 rows][2], zeros beyond the last row and
// element.
inline void pack_bf16_tiles(const float* x, int64_t ldx, int64_t rows, int64_t k, uint16_t* out) {
  for (int64_t row = 0; row < rows; row += kSide) {
    for (int64_t at = 0; at < k; at += kBf16Step, out += kSide * kBf16Step) {
      alignas(64) uint16_t block[kSide * kBf16Step] = {};
      for (int64_t r = 0; r < smaller(kSide, rows - row); ++r) {
        const float* from = x + (row + r) * ldx + at;
        uint16_t* to = block + r * kBf16Step;
        for (int64_t i = 0; i < kBf16Step; i += Simd::kWidth)
          Simd::store_bf16(to + i, load_some(from + i, k - at - i));
      }
      Simd::transpose_16(block, kSide, out, kSide);
    }
  }
}

// The rows [col, col + 16) of w over `steps` tiles of depth from element `at` on, as left operands. Where w
// ends before the last of them, a copy with zeros: `copy` has room for it.
inline TileRow weight_tiles(const uint16_t* w, int64_t ldw, int64_t col, int64_t cols, int64_t at, int64_t k,
                            int64_t steps, uint16_t* copy) {
  const uint16_t* from = w + col * ldw + at;
  const int64_t width = steps * kBf16Step, there = smaller(width, k - at);
  if (cols - col >= kSide && there == width) return {from, ldw * 2, kBf16Step * 2};
  for (int64_t r = 0; r < kSide; ++r) {
    for (int64_t i = 0; i < width; ++i)
      copy[r * width + i] = col + r < cols && i < there ? from[r * ldw + i] : uint16_t{0};
  }
  return {copy, width * 2, kBf16Step * 2};
}

// One tile of sums, [16 columns][16 rows], to y.
inline void store_transposed(const float* sums, float* y, int64_t ldy, int64_t rows, int64_t cols) {
  if (rows >= kSide && cols >= kSide) return Simd::transpose_16(sums, kSide, y, ldy);
  for (int64_t r = 0; r < smaller(kSide, rows); ++r) {
    for (int64_t c = 0; c < smaller(kSide, cols); ++c) y[r * ldy + c] = sums[c * kSide + r];
  }
}

// At most kBlockRows x kBlockCols of y. The depth is walked in pieces, outermost, so that both sides'
// operands of a piece stay in cache; sums between pieces are exact copies, so no result depends on where they
// are cut.
struct Bf16Scratch {
  alignas(64) float sums[kBlockRows * kBlockCols];
  alignas(64) uint16_t copies[kBlockCols * kBf16Step];
};
inline void matmul_bf16_block(const uint16_t* x, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                              int64_t rows, int64_t cols, int64_t k, Bf16Scratch& scratch) {
  float* sums = scratch.sums;
  uint16_t* copies = scratch.copies;
  static_assert(kBlockCols >= kSide * kStepsAtOnce);  // a full piece of the last columns has room as well
  const int64_t row_tiles = (rows + kSide - 1) / kSide, col_tiles = (cols + kSide - 1) / kSide;
  const int64_t steps = (k + kBf16Step - 1) / kBf16Step, whole = k / kBf16Step;
  // Few rows are bound by reading w: in long runs.
  const int64_t at_once = row_tiles == 1 ? whole : kStepsAtOnce;
  for (int64_t step = 0, now = 0; step < steps; step += now) {
    const bool partial = step == whole, edge = cols % kSide != 0;
    now = partial ? 1 : smaller(edge ? kStepsAtOnce : at_once, whole - step);
    TileRow left[kBlockCols / kSide];
    for (int64_t c = 0; c < col_tiles; ++c) {
      left[c] = weight_tiles(w, ldw, c * kSide, cols, step * kBf16Step, k, now,
                             copies + (partial ? c * kSide * kBf16Step : 0));
    }
    for (int64_t r = 0; r < row_tiles; r += 2) {
      const int64_t rights = smaller(2, row_tiles - r);
      TileRow right[2];
      for (int64_t i = 0; i < rights; ++i) {
        right[i] = {x + ((r + i) * steps + step) * kSide * kBf16Step, 64, kSide * kBf16Step * 2};
      }
      for (int64_t c = 0; c < col_tiles; c += 2) {
        const int64_t lefts = smaller(2, col_tiles - c);
        float* tile = sums + (r * col_tiles + c * rights) * kTileSums;
        add_tiles<Bf16Tiles>(left + c, lefts, right, rights, now, step == 0, tile);
        if (step + now < steps) continue;
        for (int64_t i = 0; i < rights * lefts; ++i) {
          const int64_t row = (r + i / lefts) * kSide, col = (c + i % lefts) * kSide;
          store_transposed(tile + i * kTileSums, y + row * ldy + col, ldy, rows - row, cols - col);
        }
      }
    }
  }
}

inline void matmul_nt_bf16_tiles(const uint16_t* x, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                                 int64_t rows, int64_t cols, int64_t k, Upcoming next, void* scratch) {
  if (k == 0) return matmul_nt_bf16_rows(x, w, ldw, y, ldy, rows, cols, k, next, scratch);
  const TileShapes shapes(kSide);
  const int64_t padded = (k + kBf16Step - 1) / kBf16Step * kBf16Step;
  for (int64_t row = 0; row < rows; row += kBlockRows) {
    for (int64_t col = 0; col < cols; col += kBlockCols) {
      matmul_bf16_block(x + row * padded, w + col * ldw, ldw, y + row * ldy + col, ldy,
                        smaller(kBlockRows, rows - row), smaller(kBlockCols, cols - col), k,
                        *static_cast<Bf16Scratch*>(scratch));
    }
  }
}

// ---- int8 and int4: rows of x are left operands, weights are packed as right ones. Integer sums are exact,
// so that these give the bits of quantized_product, which serves few rows as well.

constexpr int64_t kFewRows = 4;
static_assert(kQuantGroup == 64 && kQuantColumns == kSide);

// The 16 rows of x from `row` on over `bytes` of depth from `at` on. Where x ends before the last of them, a
// copy with zeros.
inline TileRow row_tiles_of(const QuantizedRows& x, int64_t row, int64_t rows, int64_t at, int64_t bytes,
                            int8_t* copy) {
  const int8_t* from = x.values + row * x.depth + at;
  if (rows - row >= kSide) return {from, x.depth, kQuantGroup};
  for (int64_t r = 0; r < kSide; ++r) {
    for (int64_t i = 0; i < bytes; ++i)
      copy[r * bytes + i] = row + r < rows ? from[r * x.depth + i] : int8_t{0};
  }
  return {copy, bytes, kQuantGroup};
}

// 16 x 16 results of p, one vector to a row, to the columns that y has.
inline void store_rows(const QuantizedProduct& p, int64_t row, int64_t column,
                       const Simd::F (&results)[kSide]) {
  const int64_t rows = smaller(kSide, p.rows - row), cols = smaller(kSide, p.cols - column);
  with_rounding(p.round, [&](auto round) {
    for (int64_t r = 0; r < rows; ++r) {
      Simd::store(p.y + (row + r) * p.ldy + column, finished(p, column, results[r], round),
                  static_cast<int>(cols));
    }
  });
}

inline void scale_int8(const QuantizedProduct& p, int64_t row, int64_t column, const int32_t* sums) {
  const Simd::F scale = Simd::load(static_cast<const float*>(p.scales) + column);
  Simd::F results[kSide];
  for (int64_t r = 0; r < kSide; ++r) {
    const float of_row = row + r < p.rows ? p.x.scales[row + r] : 0.f;
    results[r] =
        Simd::mul(Simd::mul(Simd::from_int(Simd::load_int(sums + r * kSide)), Simd::splat(of_row)), scale);
  }
  store_rows(p, row, column, results);
}

// At most kBlockRows x kBlockCols of y.
struct Int8Scratch {
  alignas(64) int32_t sums[kBlockRows * kBlockCols];
  alignas(64) int8_t copy[kSide * kStepsAtOnce * kQuantGroup];
};
inline void matmul_int8_block(const QuantizedProduct& p) {
  auto& [sums, copy] = *static_cast<Int8Scratch*>(p.scratch);
  const int64_t steps = p.x.depth / kQuantGroup;
  const int64_t row_tiles = (p.rows + kSide - 1) / kSide, col_tiles = (p.cols + kSide - 1) / kSide;
  for (int64_t step = 0; step < steps; step += kStepsAtOnce) {
    const int64_t now = smaller(kStepsAtOnce, steps - step);
    TileRow left[kBlockRows / kSide];
    for (int64_t r = 0; r < row_tiles; ++r) {
      left[r] = row_tiles_of(p.x, r * kSide, p.rows, step * kQuantGroup, now * kQuantGroup, copy);
    }
    for (int64_t c = 0; c < col_tiles; c += 2) {
      const int64_t rights = smaller(2, col_tiles - c);
      TileRow right[2];
      for (int64_t i = 0; i < rights; ++i) {
        right[i] = {static_cast<const char*>(p.values) + ((c + i) * steps + step) * kQuantGroup * kSide, 64,
                    kQuantGroup * kSide};
      }
      for (int64_t r = 0; r < row_tiles; r += 2) {
        const int64_t lefts = smaller(2, row_tiles - r);
        int32_t* tile = sums + (c * row_tiles + r * rights) * kTileSums;
        add_tiles<Int8Tiles>(left + r, lefts, right, rights, now, step == 0, tile);
        if (step + now < steps) continue;
        for (int64_t i = 0; i < rights * lefts; ++i) {
          scale_int8(p, (r + i % lefts) * kSide, (c + i / lefts) * kSide, tile + i * kTileSums);
        }
      }
    }
  }
}

// The nibbles of a group and 16 columns as a right operand of signed bytes.
inline void unpack_int4(const void* group, int8_t* tile) {
  constexpr int kBytes = 64;
  for (int64_t s = 0; s < kQuantGroup / 8; ++s) {
    const Simd::I both = Simd::load_int(static_cast<const char*>(group) + s * kBytes);
    Simd::store_int(tile + s * kBytes, Simd::nibbles_to_signed(Simd::low_nibbles(both)));
    Simd::store_int(tile + (8 + s) * kBytes, Simd::nibbles_to_signed(Simd::high_nibbles(both)));
  }
}

// Groups [first, first + groups) of 16 x 16 results: integer sums of every group, scaled, are added in f32 by
// ascending group to `totals`, [16][16].
inline void add_int4_groups(const TileRow& x, const int8_t* weights, const uint16_t* scales, int64_t groups,
                            float* totals) {
  alignas(64) int32_t sums[2][kTileSums];  // of this group, while those of the last are still read
  Simd::F total[kSide];
#pragma GCC unroll 16
  for (int64_t r = 0; r < kSide; ++r) total[r] = Simd::load(totals + r * kSide);
  before_loading_tiles();
  for (int64_t g = 0; g < groups; ++g) {
    int32_t* of_group = sums[g % 2];
    _tile_zero(0);
    _tile_loadd(4, static_cast<const char*>(x.data) + g * x.next, x.stride);
    _tile_loadd(6, weights + g * kQuantGroup * kSide, 64);
    _tile_dpbssd(0, 4, 6);
    _tile_stored(0, of_group, 64);
    const Simd::F scale = Simd::load_bf16(scales + g * kSide);
#pragma GCC unroll 16
    for (int64_t r = 0; r < kSide; ++r) {
      total[r] = Simd::fma(Simd::from_int(Simd::load_int(of_group + r * kSide)), scale, total[r]);
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < kSide; ++r) Simd::store(totals + r * kSide, total[r]);
}

// At most kBlockRows of 16 columns of y. Weights are unpacked in pieces that stay in the L1 cache.
struct Int4Scratch {
  alignas(64) float totals[kBlockRows * kSide];
  alignas(64) int8_t weights[kStepsAtOnce * kQuantGroup * kSide], copy[kStepsAtOnce * kQuantGroup * kSide];
};
inline void matmul_int4_columns(const QuantizedProduct& p, int64_t column) {
  auto& [totals, weights, copy] = *static_cast<Int4Scratch*>(p.scratch);
  const int64_t row_tiles = (p.rows + kSide - 1) / kSide;
  __builtin_memset(totals, 0, static_cast<size_t>(row_tiles * kTileSums) * sizeof(float));
  constexpr int64_t kGroupBytes = kQuantGroup / 2 * kSide;
  const int64_t groups = p.x.depth / kQuantGroup;
  for (int64_t g = 0; g < groups; g += kStepsAtOnce) {
    const int64_t now = smaller(kStepsAtOnce, groups - g), at = column / kSide * groups + g;
    for (int64_t i = 0; i < now; ++i) {
      unpack_int4(static_cast<const char*>(p.values) + (at + i) * kGroupBytes,
                  weights + i * kQuantGroup * kSide);
    }
    for (int64_t row = 0; row < p.rows; row += kSide) {
      const TileRow x = row_tiles_of(p.x, row, p.rows, g * kQuantGroup, now * kQuantGroup, copy);
      add_int4_groups(x, weights, static_cast<const uint16_t*>(p.scales) + at * kSide, now,
                      totals + row * kSide);
    }
  }
  for (int64_t row = 0; row < p.rows; row += kSide) {
    Simd::F results[kSide];
    for (int64_t r = 0; r < kSide; ++r) {
      const float of_row = row + r < p.rows ? p.x.scales[row + r] : 0.f;
      results[r] = Simd::mul(Simd::load(totals + (row + r) * kSide), Simd::splat(of_row));
    }
    store_rows(p, row, column, results);
  }
}

inline QuantizedProduct rows_of(QuantizedProduct p, int64_t row) {
  p.x.values += row * p.x.depth;
  p.x.scales += row;
  p.x.sums += row * (p.x.depth / kQuantGroup);
  p.y += row * p.ldy;
  p.rows = smaller(kBlockRows, p.rows - row);
  return p;
}

inline void matmul_int8_tiles(const QuantizedProduct& p) {
  if (p.rows <= kFewRows) return quantized_product<Int8Weights>(p);
  const TileShapes shapes(kSide);
  for (int64_t row = 0; row < p.rows; row += kBlockRows) {
    for (int64_t column = 0; column < p.cols; column += kBlockCols) {
      QuantizedProduct block = rows_of(p, row);
      block.values = static_cast<const char*>(p.values) + column * p.x.depth;
      block.scales = static_cast<const float*>(p.scales) + column;
      block.y += column;
      if (p.bias != nullptr) block.bias += column;
      block.cols = smaller(kBlockCols, p.cols - column);
      matmul_int8_block(block);
    }
  }
}

inline void matmul_int4_tiles(const QuantizedProduct& p) {
  if (p.rows <= kFewRows) return quantized_product<Int4Weights>(p);
  const TileShapes shapes(kSide);
  for (int64_t row = 0; row < p.rows; row += kBlockRows) {
    for (int64_t column = 0; column < p.cols; column += kSide) matmul_int4_columns(rows_of(p, row), column);
  }
}

#include "kernels/amx_flash-inl.h"

constexpr Kernels make_amx_kernels(const char* name) {
  Kernels table = make_kernels(name);
  table.pack_bf16_rows = pack_bf16_tiles;
  table.bf16_depth_unit = kBf16Step;
  table.matmul_nt_bf16_bf16 = matmul_nt_bf16_tiles;
  table.bf16_scratch = sizeof(Bf16Scratch);
  table.int8_scratch = sizeof(Int8Scratch);
  table.int4_scratch = sizeof(Int4Scratch);
  table.matmul_int8 = matmul_int8_tiles;
  table.matmul_int4 = matmul_int4_tiles;
  table.flash_tile = flash_tile_amx;
  table.flash_rows = nullptr;
  table.product_cols = table.quantized_product_cols = kBlockCols;
  return table;
}

}  // namespace
}  // namespace fovea
