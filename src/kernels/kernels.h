// Leaf kernels, compiled once per instruction set and chosen once at run time. They allocate nothing, start
// no thread and keep no state; pointers need no alignment unless stated, but `scratch` one of 64 bytes. No
// frame exceeds 16 KB (the build checks it): what is larger is scratch, which the caller hands in, one to a
// thread.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/block_format.h"
#include "base/dtype.h"
#include "kernels/quantized.h"
#include "kernels/upcoming.h"

namespace fovea {

// One tile of keys joins the running softmax of one tile of queries, all in native bf16 dot products (see
// Kernels::flash_tile).
struct FlashTile {
  static constexpr int64_t kKeys = 64;

  const uint16_t* q;       // bf16 [rows, head_dim]
  const uint16_t* k;       // bf16, packed: [head_dim / 2, kKeys, 2]
  const uint16_t* v;       // bf16, packed: [kKeys / 2, head_dim, 2]
  int64_t rows, head_dim;  // head_dim is a multiple of 16
  // Row r sees the first min(keys, visible + r / group) of the tile's keys; keys <= kKeys.
  int64_t keys, visible, group;
  float scale;  // of the scores, times log2(e): exponentials are powers of two
  // Per row: the largest scaled score so far (-inf before the first), the sum of the powers relative to it,
  // and their product with V, [rows, head_dim].
  float *shift, *sum, *out;
};

// A tile of at most kMost rows with its keys and values as they lie: FlashTile::k and ::v are the first of
// rows of head_dim elements that lie so many elements apart. q, shift, sum and out have room for kMost rows;
// those beyond tile.rows are written and mean nothing.
struct FlashRows {
  static constexpr int64_t kMost = 8;

  FlashTile tile;
  int64_t k_stride, v_stride;
  // The tile that the thread takes next, its rows the same distance apart: a hint, or null.
  const uint16_t *next_k = nullptr, *next_v = nullptr;
};

// What a matrix product reads: f32 everywhere, or bf16 pairs where the machine multiplies them natively.
struct Kernels {
  const char* name;  // "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx"

  static constexpr int64_t kFewRows = 64;

  // y[m, n] = sum_k x[m, k] * w[n, k] in f32. x, w f32 with row strides ldx, ldw; y with stride ldy.
  // Up to kFewRows rows, as decoding has them, w comes from memory once while they are multiplied: give them
  // long pieces of it. For one (m, n) the order of the sum depends on k alone, never on rows, cols or which
  // tile it fell in.
  void (*matmul_nt_f32)(const float* x, int64_t ldx, const float* w, int64_t ldw, float* y, int64_t ldy,
                        int64_t rows, int64_t cols, int64_t k);
  // The same with w in bf16 / f16. Bit-equal to widening w and calling matmul_nt_f32. `scratch`:
  // widening_scratch(k) bytes.
  void (*matmul_nt_bf16)(const float* x, int64_t ldx, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                         int64_t rows, int64_t cols, int64_t k, void* scratch);
  void (*matmul_nt_f16)(const float* x, int64_t ldx, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                        int64_t rows, int64_t cols, int64_t k, void* scratch);
  static constexpr int64_t kWidenedCols = 48, kWidenedDepth = 1024;
  int64_t widened_cols;  // of w, up to kWidenedDepth deep, at once; 0 where w is widened in registers
  int64_t widening_scratch(int64_t k) const {
    return widened_cols * (k < kWidenedDepth ? k : kWidenedDepth) * int64_t{sizeof(float)};
  }
  // Both operands bf16 by native products, f32 accumulation; null where the machine has none. x comes from
  // pack_bf16_rows, in whatever form the variant reads it. `scratch`: bf16_scratch bytes.
  void (*matmul_nt_bf16_bf16)(const uint16_t* x, const uint16_t* w, int64_t ldw, float* y, int64_t ldy,
                              int64_t rows, int64_t cols, int64_t k, Upcoming next, void* scratch);
  // x [rows, k] f32 with row stride ldx, as bf16 in blocks of kBf16Rows rows, each kBf16Rows * k elements
  // with k rounded up to bf16_depth_unit; blocks are independent of each other.
  void (*pack_bf16_rows)(const float* x, int64_t ldx, int64_t rows, int64_t k, uint16_t* out);
  static constexpr int64_t kBf16Rows = 16;
  int64_t bf16_depth_unit;

  // Columns of y that a task of many rows should take: their weights stay in a core's own cache.
  int64_t product_cols, quantized_product_cols;
  // Bytes that a product of native bf16, int8 or int4 works in: the caller's, because they lie on no stack.
  int64_t bf16_scratch, int8_scratch, int4_scratch;

  // The tile's part of flash attention: scores by bf16 products with f32 sums (ascending pairs of head_dim),
  // powers of two relative to the updated maximum with a relative error below 2^-21, their f32 sum, and the
  // product of their bf16 roundings with V (ascending pairs of keys). A row's result does not depend on the
  // rows beside it. Null where the machine has no native bf16.
  void (*flash_tile)(const FlashTile& tile);
  // The same, bit for bit, without packing. Null also where packed tiles are multiplied in another way.
  void (*flash_rows)(const FlashRows& rows);
  // Packs `count` <= kKeys rows of bf16, `stride` elements apart, for FlashTile::k and ::v; what is missing
  // becomes zero.
  void (*pack_flash_keys)(const uint16_t* rows, int64_t stride, int64_t count, int64_t head_dim,
                          uint16_t* out);
  void (*pack_flash_values)(const uint16_t* rows, int64_t stride, int64_t count, int64_t head_dim,
                            uint16_t* out);

  // values = round(x 127 / max|x|) and their sums by groups; `count` is rounded up to whole groups with
  // zeros. Returns the scale max|x| / 127, NaN or infinite when x is not finite.
  float (*quantize_row)(const float* x, int64_t count, int8_t* values, int32_t* sums);
  // kQuantGroup weights as scale * values, values from -8 to 7; returns the scale, which bf16 can hold.
  float (*quantize_group)(const float* w, int8_t* values);
  // y = x w^T for 8-bit and 4-bit weights: integer sums are exact (over the depth in int8, over each group in
  // int4, whose scaled sums are added in f32 by ascending group); then times the row's and the column's
  // scale.
  void (*matmul_int8)(const QuantizedProduct& product);
  void (*matmul_int4)(const QuantizedProduct& product);

  // y[m, n] += sum_k p[m, k] * v[k, n]; all f32; k ascending.
  void (*matmul_nn_f32)(const float* p, int64_t ldp, const float* v, int64_t ldv, float* y, int64_t ldy,
                        int64_t rows, int64_t cols, int64_t k);

  // Widening and narrowing copies (round to nearest even).
  void (*f32_from_bf16)(const uint16_t* in, float* out, int64_t count);
  void (*f32_from_f16)(const uint16_t* in, float* out, int64_t count);
  // out = scale * in, rounded once.
  void (*f32_from_int8)(const int8_t* in, float scale, float* out, int64_t count);
  void (*bf16_from_f32)(const float* in, uint16_t* out, int64_t count);
  void (*f16_from_f32)(const float* in, uint16_t* out, int64_t count);
  // In place: x = the nearest value of the type.
  void (*round_bf16)(float* x, int64_t count);
  void (*round_f16)(float* x, int64_t count);

  float (*max_value)(const float* x, int64_t count);  // -inf when count is 0
  // x = exp(x * scale - shift) in place; returns the sum of the unrounded results. Relative error below 2^-21
  // of exp at the f32 argument; arguments below -87.3 and -inf give 0, above 88.3 infinity; NaN stays NaN.
  float (*exp_sum)(float* x, int64_t count, float scale, float shift);

  // What stands between projections and attention; r rounds to `type`, and no bit depends on the variant but
  // through the exponential.
  // Eight interleaved partial sums.
  float (*sum_of_squares)(const float* x, int64_t count);
  // out = r(x factor), where x may be out
  void (*scale)(const float* x, float factor, float* out, int64_t count, DType type);
  // out = r(r(x factor) weight)
  void (*scale_and_weigh)(const float* x, float factor, const float* weight, float* out, int64_t count,
                          DType type);
  // y = r(y + x)
  void (*add_rounded)(float* y, const float* x, int64_t count, DType type);
  // gate = r(r(gate / (1 + exp(-gate))) up)
  void (*silu_times)(float* gate, const float* up, int64_t count, DType type);
  // Each of `heads` heads, 2 pairs elements after one another: (a, b) at i and i + pairs becomes
  // r(s(a cos) + s(-b sin)), r(s(b cos) + s(a sin)), where s rounds to `steps` and r to `result`.
  void (*rotate)(float* x, int64_t heads, const float* cos, const float* sin, int64_t pairs, DType steps,
                 DType result);
  bool (*all_finite)(const float* x, int64_t count);

  // `count` weights, whole blocks of Q8_0, Q4_K, Q5_K or Q6_K, rounded once to f32, bf16 or f16: the bits of
  // widen_blocks (base/block_format.h), rounded.
  void (*unpack_blocks)(BlockFormat format, const void* blocks, int64_t count, DType type, void* out);
};

// The best this machine supports, or the one named by the environment variable FOVEA_ISA. Throws
// Error(unsupported) when that one cannot run here.
const Kernels& kernels();
// The variant of that name; throws Error(unsupported) when it cannot run here.
const Kernels& kernels_named(std::string_view name);
// Every variant this machine can run, the scalar one first.
const std::vector<const Kernels*>& available_kernels();

}  // namespace fovea
