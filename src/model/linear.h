// Projections: weights as their node wants them, and the threaded product.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/precision.h"
#include "model/weight_store.h"

namespace fovea {

// The nodes around one projection.
struct LinearTypes {
  DType weights;  // of the weight and the bias
  DType input;    // what x was rounded to before: with bf16 here and in `weights` native bf16 products serve
  DType output;
  Quantization quantization = Quantization::none;
};

// What projections work in: sized by them, kept by whoever calls, for one call at a time. A decoding step
// makes hundreds of calls.
struct ProductScratch {
  Buffer<uint16_t> bf16;  // rows in the form that native products want
  Buffer<int8_t> values;  // rows quantized
  Buffer<int32_t> sums;
  Buffer<float> scales;
  Buffer<char> of_threads;  // what each thread multiplies in, one after another
};

// Rows of a matrix in blocks, which products unpack piece by piece.
struct BlockRows {
  BlockFormat format = BlockFormat::q8_0;
  const char* data = nullptr;  // of the first row; null: the matrix is not in blocks
  int64_t row_bytes = 0;
};

class Linear;
// One of several projections of the same rows: y[rows, linear->out()] with row stride `y_stride`.
struct Projection {
  const Linear* linear;
  float* y;
  int64_t y_stride;
};

// y = r(x W^T + b). The weight is borrowed from the store, as it is or quantized, or from the checkpoint, in
// blocks: then it is unpacked and rounded to types.weights within the product, whose bits are those of the
// rounded matrix.
class Linear {
 public:
  Linear() = default;
  // Loads "<name>.weight" and, if present in the checkpoint, "<name>.bias".
  Linear(const WeightStore& store, const std::string& name, const LinearTypes& types);
  // A weight without bias whose full tensor name is given (embedding used as output head).
  static Linear of_weight(const WeightStore& store, const std::string& tensor, const LinearTypes& types);

  // A borrowed weight without bias.
  static Linear of_matrix(const MatrixView& weight, const LinearTypes& types);

  // A borrowed quantized weight with `in` columns, without bias.
  static Linear of_quantized(const QuantizedMatrix& weight, int64_t in, const LinearTypes& types);

  // Rows of a matrix of the store, not quantized.
  static Linear of_rows(const WeightStore& store, const std::string& tensor, int64_t first, int64_t count,
                        const LinearTypes& types);

  // Some rows of "<name>.weight" with the same part of its bias, or some of its columns without bias, copied.
  // Not quantized nor streamed.
  static Linear of_rows_with_bias(const WeightStore& store, const std::string& name, int64_t first,
                                  int64_t count, const LinearTypes& types);
  static Linear of_columns(const WeightStore& store, const std::string& name, int64_t first, int64_t count,
                           const LinearTypes& types);

  int64_t in() const { return weight().cols; }
  int64_t out() const { return weight().rows; }

  // x: [rows, in] f32 holding values of types.input; y: [rows, out] f32 with row stride `y_stride`. Products
  // are accumulated in f32 (quantized ones exactly, see kernels/quantized.h), the bias added, and the result
  // rounded once to types.output (one rounding per output, as a fused addmm does). Every row's result is
  // independent of the other rows, bit for bit.
  void apply(const Context& context, ProductScratch& scratch, const float* x, int64_t rows, float* y,
             int64_t y_stride) const;
  void apply(const Context& context, ProductScratch& scratch, const float* x, int64_t rows, float* y) const {
    apply(context, scratch, x, rows, y, out());
  }
  // The same for several projections of the same rows, which are converted once, and with no wait between.
  static void apply_all(const Context& context, ProductScratch& scratch, std::span<const Projection> all,
                        const float* x, int64_t rows);

  // What apply() makes of its scratch for `rows` of `depth` inputs: their quantized copy, or the narrowed one
  // where native products serve, and what the context's threads multiply in.
  static int64_t scratch_bytes(const Context& context, const LinearTypes& types, int64_t rows, int64_t depth);

  // Moves the bias out: from then on y = r(x W^T). Empty when there is none.
  std::vector<float> take_bias() { return std::exchange(bias_, {}); }

  // Row r widened to f32 (an embedding look-up), [in].
  void row(const Kernels& kernels, int64_t r, float* out) const;

 private:
  LinearTypes types_{};
  class Product;
  static int64_t converted_bytes(const Kernels& kernels, const LinearTypes& types, int64_t rows,
                                 int64_t depth);
  bool native(const Kernels& kernels) const;  // both operands in bf16, by the CPU's own products
  void multiply_view(const Kernels& kernels, const MatrixView& view, int64_t col, const float* x,
                     const uint16_t* bf16, int64_t rows, int64_t cols, float* y, int64_t stride,
                     const Upcoming& next, void* scratch) const;
  void multiply_blocks(const Kernels& kernels, int64_t col, const float* x, const uint16_t* bf16,
                       int64_t rows, int64_t cols, float* y, int64_t stride, char* scratch) const;
  int64_t product_scratch_bytes(const Kernels& kernels) const;
  const MatrixView& weight() const { return held_ != nullptr ? *held_ : weight_; }

  MatrixView weight_;
  const MatrixView* held_ = nullptr;            // by the store: the weight; its data changes when streamed
  BlockRows blocks_;                            // takes the place of the weight's data
  const QuantizedMatrix* quantized_ = nullptr;  // takes the place of the weight in products
  std::shared_ptr<const void> memory_;          // of a weight that was copied, converted or quantized
  std::vector<float> bias_;
};

}  // namespace fovea
