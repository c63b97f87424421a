#include "model/linear.h"

#include <algorithm>

#include "base/parallel.h"
#include "base/rounding.h"
#include "kernels/kernels.h"
#include "model/elementwise.h"

namespace fovea {

namespace {

// Rows handed to one thread at a time: they stay in the shared cache.
constexpr int64_t kRowsPerTask = 512;
// A single token only streams weights: long runs, few tasks.
constexpr int64_t kColsPerTaskStreaming = 256;
// Rows that one task converts.
constexpr int64_t kRowsConverted = Kernels::kBf16Rows;
static_assert(kRowsPerTask % kRowsConverted == 0);

// Rows of x in the form that the product wants; kept from call to call by the thread that calls, because a
// decoding step makes hundreds of calls.
struct Operand {
  const uint16_t* bf16 = nullptr;
  QuantizedRows quantized{};

  QuantizedRows quantized_from(int64_t row) const {
    const QuantizedRows& q = quantized;
    return {q.values + row * q.depth, q.scales + row, q.sums + row * (q.depth / kQuantGroup), q.depth};
  }
};

// Elements of `rows` packed rows; of the rows before a task when `rows` is a multiple of kBf16Rows.
int64_t packed_elements(int64_t rows, int64_t depth) {
  const int64_t unit = kernels().bf16_depth_unit;
  return (rows + kRowsConverted - 1) / kRowsConverted * kRowsConverted * ((depth + unit - 1) / unit * unit);
}

Operand bf16_rows(const float* x, int64_t rows, int64_t depth) {
  static thread_local Buffer<uint16_t> kept;
  kept.reserve(packed_elements(rows, depth));
  uint16_t* to = kept.data();
  parallel_for((rows + kRowsConverted - 1) / kRowsConverted, [&](int64_t piece) {
    const int64_t row = piece * kRowsConverted;
    kernels().pack_bf16_rows(x + row * depth, depth, std::min(kRowsConverted, rows - row), depth,
                             to + packed_elements(row, depth));
  });
  return {to, {}};
}

Operand quantized_rows(const float* x, int64_t rows, int64_t count, int64_t depth) {
  static thread_local Buffer<int8_t> kept_values;
  static thread_local Buffer<int32_t> kept_sums;
  static thread_local Buffer<float> kept_scales;
  const int64_t groups = depth / kQuantGroup;
  kept_values.reserve(rows * depth);
  kept_sums.reserve(rows * groups);
  kept_scales.reserve(rows);
  int8_t* values = kept_values.data();
  int32_t* sums = kept_sums.data();
  float* scales = kept_scales.data();
  parallel_for((rows + kRowsConverted - 1) / kRowsConverted, [&](int64_t piece) {
    for (int64_t r = piece * kRowsConverted; r < std::min(rows, (piece + 1) * kRowsConverted); ++r) {
      scales[r] = kernels().quantize_row(x + r * count, count, values + r * depth, sums + r * groups);
    }
  });
  return {nullptr, {values, scales, sums, depth}};
}

// The product of f32 rows with f32 weights, or with 16-bit ones that are widened on the way.
void multiply_widened(const float* x, const MatrixView& weight, int64_t col, int64_t rows, int64_t cols,
                      float* y, int64_t ldy) {
  const Kernels& k = kernels();
  const int64_t depth = weight.cols;
  const void* w = weight.row(col);
  if (weight.dtype == DType::f32) {
    k.matmul_nt_f32(x, depth, static_cast<const float*>(w), depth, y, ldy, rows, cols, depth);
  } else {
    const auto product = weight.dtype == DType::bf16 ? k.matmul_nt_bf16 : k.matmul_nt_f16;
    product(x, depth, static_cast<const uint16_t*>(w), depth, y, ldy, rows, cols, depth);
  }
}

// A matrix whose weights are wanted in bf16 is one of bf16 (WeightStore).
bool native_products(const LinearTypes& types) {
  return types.weights == DType::bf16 && types.input == DType::bf16 &&
         kernels().matmul_nt_bf16_bf16 != nullptr;
}

}  // namespace

Linear::Linear(const WeightStore& store, const std::string& name, const LinearTypes& types)
    : Linear(of_weight(store, name + ".weight", types)) {
  if (store.checkpoint().has(name + ".bias")) bias_ = store.vector(name + ".bias", types.weights);
}

Linear Linear::of_weight(const WeightStore& store, const std::string& tensor, const LinearTypes& types) {
  const TensorInfo& info = store.checkpoint().tensor(tensor);
  if (types.quantization == Quantization::none) return of_rows(store, tensor, 0, info.shape[0], types);
  return of_quantized(store.quantized(tensor, types.weights, types.quantization),
                      info.elements() / info.shape[0], types);
}

Linear Linear::of_rows(const WeightStore& store, const std::string& tensor, int64_t first, int64_t count,
                       const LinearTypes& types) {
  Linear linear;
  linear.types_ = types;
  linear.held_ = &store.rows(tensor, types.weights, first, count);
  return linear;
}

Linear Linear::of_rows_with_bias(const WeightStore& store, const std::string& name, int64_t first,
                                 int64_t count, const LinearTypes& types) {
  Linear linear = of_rows(store, name + ".weight", first, count, types);
  if (!store.checkpoint().has(name + ".bias")) return linear;
  const std::vector<float> bias = store.vector(name + ".bias", types.weights);
  linear.bias_.assign(bias.begin() + first, bias.begin() + first + count);
  return linear;
}

Linear Linear::of_columns(const WeightStore& store, const std::string& name, int64_t first, int64_t count,
                          const LinearTypes& types) {
  FOVEA_CHECK(!store.streams());
  const MatrixView& whole = store.matrix(name + ".weight", types.weights);
  const auto element = static_cast<int64_t>(bytes_of(whole.dtype));
  const auto copy = std::make_shared<Buffer<char>>(whole.rows * count * element);
  for (int64_t r = 0; r < whole.rows; ++r) {
    const char* from = static_cast<const char*>(whole.row(r)) + first * element;
    std::copy_n(from, count * element, copy->data() + r * count * element);
  }
  Linear linear = of_matrix({copy->data(), whole.dtype, whole.rows, count, count}, types);
  linear.columns_ = copy;
  return linear;
}

Linear Linear::of_matrix(const MatrixView& weight, const LinearTypes& types) {
  Linear linear;
  linear.types_ = types;
  linear.weight_ = weight;
  return linear;
}

Linear Linear::of_quantized(const QuantizedMatrix& weight, int64_t in, const LinearTypes& types) {
  Linear linear = of_matrix({nullptr, types.weights, weight.rows(), in, in}, types);
  linear.quantized_ = &weight;
  return linear;
}

void Linear::row(int64_t r, float* out) const { widen_row(weight(), r, out); }

int64_t Linear::scratch_bytes(const LinearTypes& types, int64_t rows, int64_t depth) {
  if (types.quantization != Quantization::none) {
    const int64_t groups = (depth + kQuantGroup - 1) / kQuantGroup;
    return rows * (groups * (kQuantGroup + int64_t{sizeof(int32_t)}) + int64_t{sizeof(float)});
  }
  return native_products(types) ? packed_elements(rows, depth) * int64_t{sizeof(uint16_t)} : 0;
}

// The first column of the task that this thread probably takes after `task`, while all threads advance alike;
// negative where there is none of as many columns.
int64_t Linear::next_columns(int64_t task, int64_t cols_per_task, int64_t rows) const {
  const int64_t col_tasks = divide_up(out(), cols_per_task), next = task + threads();
  if (next >= col_tasks * divide_up(rows, kRowsPerTask)) return -1;
  const int64_t col = next % col_tasks * cols_per_task;
  return col + cols_per_task <= out() ? col : -1;
}

void Linear::apply(const float* x, int64_t rows, float* y, int64_t y_stride) const {
  const MatrixView& weight = this->weight();
  FOVEA_CHECK(weight.data != nullptr || quantized_ != nullptr);  // else a lease is missing
  const bool native = native_products(types_) && weight.dtype == DType::bf16;
  const Operand operand = quantized_ != nullptr ? quantized_rows(x, rows, in(), quantized_->depth())
                          : native              ? bf16_rows(x, rows, in())
                                                : Operand{};
  const int64_t cols_per_task = rows <= 4               ? kColsPerTaskStreaming
                                : quantized_ != nullptr ? kernels().quantized_product_cols
                                                        : kernels().product_cols;
  const int64_t col_tasks = divide_up(out(), cols_per_task), row_tasks = divide_up(rows, kRowsPerTask);
  parallel_for(col_tasks * row_tasks, [&](int64_t task) {
    const int64_t row = task / col_tasks * kRowsPerTask, col = task % col_tasks * cols_per_task;
    const int64_t rows_now = std::min(kRowsPerTask, rows - row),
                  cols_now = std::min(cols_per_task, out() - col);
    float* tile = y + row * y_stride + col;
    const int64_t next = next_columns(task, cols_per_task, rows);
    if (quantized_ != nullptr) {
      quantized_->multiply(operand.quantized_from(row), rows_now, col, cols_now, tile, y_stride, next);
    } else if (operand.bf16 != nullptr) {
      kernels().matmul_nt_bf16_bf16(operand.bf16 + packed_elements(row, in()),
                                    static_cast<const uint16_t*>(weight.row(col)), in(), tile, y_stride,
                                    rows_now, cols_now, in(),
                                    next < 0 ? nullptr : static_cast<const uint16_t*>(weight.row(next)));
    } else {
      multiply_widened(x + row * in(), weight, col, rows_now, cols_now, tile, y_stride);
    }
    for (int64_t r = 0; r < rows_now; ++r) {
      float* out_row = tile + r * y_stride;
      if (bias_.empty()) {
        round_serial(out_row, cols_now, types_.output);
      } else {
        kernels().add_rounded(out_row, bias_.data() + col, cols_now, types_.output);
      }
    }
  });
}

}  // namespace fovea
