// A weight matrix in 8 or 4 bits, packed for the kernels (layout and meaning: kernels/quantized.h).
#pragma once

#include <span>

#include "base/buffer.h"
#include "base/precision.h"
#include "kernels/context.h"
#include "kernels/quantized.h"

namespace fovea {

class QuantizedMatrix {
 public:
  QuantizedMatrix() = default;
  // Symmetric, without calibration: w8a8 scales each row (output channel) by its largest magnitude; int4
  // scales each group of 64 by the best of a few scales. In parallel over rows.
  QuantizedMatrix(const Context& context, const MatrixView& source, Quantization quantization);

  // Borrows the packed bytes of a matrix of `rows` x `cols`: what packed_values() and packed_scales() gave.
  static QuantizedMatrix borrowed(const void* values, const void* scales, int64_t rows, int64_t cols,
                                  Quantization quantization);

  int64_t rows() const { return rows_; }    // output channels
  int64_t depth() const { return depth_; }  // of the source's columns, rounded up to whole groups
  // Of one made from a matrix of `rows` x `cols`.
  static int64_t bytes_for(int64_t rows, int64_t cols, Quantization quantization);

  // The product of the p.cols output channels from `first` on, a multiple of kQuantColumns; their values and
  // scales are put in.
  void multiply(const Kernels& kernels, QuantizedProduct p, int64_t first) const;
  // The memory of that many output channels, as multiply() reads it.
  Upcoming memory_of(int64_t first, int64_t count) const;

  std::span<const char> packed_values() const;
  std::span<const char> packed_scales() const;
  // The first `cols` weights of output channel `row`, which f32 holds exactly for int4 and rounds once for
  // w8a8.
  void widen(int64_t row, int64_t cols, float* out) const;

 private:
  int64_t columns() const;  // rows_ rounded up to whole blocks
  void pack_int8(const Kernels& kernels, const MatrixView& source, int64_t block);
  void pack_int4(const Kernels& kernels, const MatrixView& source, int64_t block);

  Quantization quantization_ = Quantization::none;
  int64_t rows_ = 0, depth_ = 0;
  Buffer<char> own_values_, own_scales_;  // empty when borrowed
  const char *values_ = nullptr, *scales_ = nullptr;
};

// Row `row` of a matrix of any storage type as f32.
void widen_row(const Kernels& kernels, const MatrixView& view, int64_t row, float* out);

}  // namespace fovea
