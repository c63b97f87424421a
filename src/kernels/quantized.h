// Products of 8-bit and 4-bit weights with rows quantized to 8 bits: exact integer sums, scaled in f32.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/upcoming.h"

namespace fovea {

// Columns of y whose weights are packed together, and elements of depth that share a scale in 4-bit weights
// (and a sum in rows). Depth is padded with zeros to a multiple of kQuantGroup, columns to one of
// kQuantColumns.
inline constexpr int64_t kQuantColumns = 16, kQuantGroup = 64;

// Rows of x: x[m, k] = scales[m] * values[m, k], |values| <= 127.
struct QuantizedRows {
  const int8_t* values;  // [rows, depth]
  const float* scales;   // [rows]; NaN or infinite where the row was not finite
  const int32_t* sums;   // [rows, depth / kQuantGroup] of the values
  int64_t depth;
};

// int8: w[n, k] = scales[n] * values[n, k], |values| <= 127, packed [cols / 16][depth / 4][16][4]; scales
// f32. int4: w[n, k] = scales[n, group of k] * (nibble - 8); packed [cols / 16][group][8][16][4] bytes, where
// byte (s, n, j) of a group holds element 4 s + j in its low and 32 + 4 s + j in its high half; scales are
// bf16, packed [cols / 16][group][16].
// y = r(x w^T + bias), r rounding to `round`.
struct QuantizedProduct {
  QuantizedRows x;
  const void *values = nullptr, *scales = nullptr;  // of the first column, a multiple of kQuantColumns
  float* y;                                         // [rows, cols], written
  int64_t ldy, rows, cols;
  const float* bias = nullptr;  // [cols], or none
  DType round = DType::f32;
  Upcoming next = {};
  void* scratch = nullptr;  // Kernels::int8_scratch or int4_scratch bytes
};

}  // namespace fovea
