#include "model/linear.h"

#include <algorithm>

#include "base/rounding.h"
#include "model/elementwise.h"
#include "model/weight_nodes.h"

namespace fovea {

namespace {

// Rows handed to one thread at a time: they stay in the shared cache.
constexpr int64_t kRowsPerTask = 512;
// So few wait for weights, or take no longer than they do: each task streams a long piece of them.
constexpr int64_t kFewRows = Kernels::kFewRows;
// Columns of such a task when `left` are left to all threads: streams are long at first, and threads end
// together.
int64_t streamed_cols(int64_t left, int threads) {
  constexpr int64_t kFewest = 128;  // shorter streams would wait for the memory at their beginnings
  return round_up(divide_up(left, 2 * threads), kFewest);
}
// Rows of a weight in blocks that are unpacked at once: for few rows of x as many as a product reads at a
// time, which then stay in the first cache; else what fits into the second.
constexpr int64_t kUnpackedAtOnce = 256 << 10, kFewestUnpacked = 4, kLine = 64;
int64_t rows_unpacked(int64_t rows, int64_t row_bytes) {
  constexpr int64_t kUnit = 48;
  if (rows <= kFewestUnpacked) return kFewestUnpacked;
  const int64_t fit = kUnpackedAtOnce / row_bytes;
  return fit >= kUnit ? kUnit : std::max<int64_t>(fit / kFewestUnpacked, 1) * kFewestUnpacked;
}
// Rows that one task converts.
constexpr int64_t kRowsConverted = Kernels::kBf16Rows;
static_assert(kRowsPerTask % kRowsConverted == 0);

// Elements of `rows` packed rows; of the rows before a task when `rows` is a multiple of kBf16Rows.
int64_t packed_elements(const Kernels& kernels, int64_t rows, int64_t depth) {
  const int64_t unit = kernels.bf16_depth_unit;
  return (rows + kRowsConverted - 1) / kRowsConverted * kRowsConverted * ((depth + unit - 1) / unit * unit);
}

// Rows of x in the form that a product wants.
const uint16_t* bf16_rows(const Context& context, ProductScratch& scratch, const float* x, int64_t rows,
                          int64_t depth) {
  const Kernels& kernels = *context.kernels;
  scratch.bf16.reserve(packed_elements(kernels, rows, depth));
  uint16_t* to = scratch.bf16.data();
  context.parallel_for((rows + kRowsConverted - 1) / kRowsConverted, [&](int64_t piece) {
    const int64_t row = piece * kRowsConverted;
    kernels.pack_bf16_rows(x + row * depth, depth, std::min(kRowsConverted, rows - row), depth,
                           to + packed_elements(kernels, row, depth));
  });
  return to;
}

QuantizedRows quantized_rows(const Context& context, ProductScratch& scratch, const float* x, int64_t rows,
                             int64_t count, int64_t depth) {
  const int64_t groups = depth / kQuantGroup;
  scratch.values.reserve(rows * depth);
  scratch.sums.reserve(rows * groups);
  scratch.scales.reserve(rows);
  int8_t* values = scratch.values.data();
  int32_t* sums = scratch.sums.data();
  float* scales = scratch.scales.data();
  context.parallel_for((rows + kRowsConverted - 1) / kRowsConverted, [&](int64_t piece) {
    for (int64_t r = piece * kRowsConverted; r < std::min(rows, (piece + 1) * kRowsConverted); ++r) {
      scales[r] = context.kernels->quantize_row(x + r * count, count, values + r * depth, sums + r * groups);
    }
  });
  return {values, scales, sums, depth};
}

// The product of f32 rows with f32 weights, or with 16-bit ones that are widened on the way.
void multiply_widened(const Kernels& k, const float* x, const MatrixView& weight, int64_t col, int64_t rows,
                      int64_t cols, float* y, int64_t ldy, void* scratch) {
  const int64_t depth = weight.cols;
  const void* w = weight.row(col);
  if (weight.dtype == DType::f32) {
    k.matmul_nt_f32(x, depth, static_cast<const float*>(w), depth, y, ldy, rows, cols, depth);
  } else {
    const auto product = weight.dtype == DType::bf16 ? k.matmul_nt_bf16 : k.matmul_nt_f16;
    product(x, depth, static_cast<const uint16_t*>(w), depth, y, ldy, rows, cols, depth, scratch);
  }
}

// A matrix whose weights are wanted in bf16 is one of bf16 (WeightStore).
bool native_products(const Kernels& kernels, const LinearTypes& types) {
  return types.weights == DType::bf16 && types.input == DType::bf16 && kernels.matmul_nt_bf16_bf16 != nullptr;
}

// Bytes that one thread multiplies in.
int64_t thread_scratch_bytes(const Kernels& k, const LinearTypes& types, int64_t depth) {
  switch (types.quantization) {
    case Quantization::w8a8:
      return k.int8_scratch;
    case Quantization::int4:
      return k.int4_scratch;
    default:
      return native_products(k, types) ? k.bf16_scratch : k.widening_scratch(depth);
  }
}

}  // namespace

Linear::Linear(const WeightStore& store, const std::string& name, const LinearTypes& types)
    : Linear(of_weight(store, name + ".weight", types)) {
  if (store.checkpoint().has(name + ".bias")) bias_ = store.vector(name + ".bias", types.weights);
}

Linear Linear::of_weight(const WeightStore& store, const std::string& tensor, const LinearTypes& types) {
  const TensorInfo& info = store.checkpoint().tensor(tensor);
  if (types.quantization == Quantization::none) return of_rows(store, tensor, 0, info.shape[0], types);
  const auto weight = store.quantized(tensor, types.weights, types.quantization);
  Linear linear = of_quantized(*weight, info.elements() / info.shape[0], types);
  linear.memory_ = weight;
  return linear;
}

Linear Linear::of_rows(const WeightStore& store, const std::string& tensor, int64_t first, int64_t count,
                       const LinearTypes& types) {
  Linear linear;
  linear.types_ = types;
  const TensorInfo& info = store.checkpoint().tensor(tensor);
  if (computed_from_blocks(info)) {
    const int64_t cols = info.shape[1], row_bytes = info.bytes() / info.shape[0];
    linear.weight_ = {nullptr, types.weights, count, cols, cols};
    linear.blocks_ = {info.blocks, static_cast<const char*>(info.parts.values) + first * row_bytes,
                      row_bytes};
    return linear;
  }
  const HeldMatrix rows = store.rows(tensor, types.weights, first, count);
  linear.held_ = rows.view;
  linear.memory_ = rows.memory;
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
  const HeldMatrix held = store.matrix(name + ".weight", types.weights);
  const MatrixView& whole = *held.view;
  const auto element = static_cast<int64_t>(bytes_of(whole.dtype));
  const auto copy = std::make_shared<Buffer<char>>(whole.rows * count * element);
  for (int64_t r = 0; r < whole.rows; ++r) {
    const char* from = static_cast<const char*>(whole.row(r)) + first * element;
    std::copy_n(from, count * element, copy->data() + r * count * element);
  }
  Linear linear = of_matrix({copy->data(), whole.dtype, whole.rows, count, count}, types);
  linear.memory_ = copy;
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

void Linear::row(const Kernels& kernels, int64_t r, float* out) const {
  if (blocks_.data == nullptr) return widen_row(kernels, weight(), r, out);
  kernels.unpack_blocks(blocks_.format, blocks_.data + r * blocks_.row_bytes, in(), DType::f32, out);
  round_serial(kernels, out, in(), weight().dtype);
}

int64_t Linear::scratch_bytes(const Context& context, const LinearTypes& types, int64_t rows, int64_t depth) {
  return converted_bytes(*context.kernels, types, rows, depth) +
         context.threads() * thread_scratch_bytes(*context.kernels, types, depth);
}

int64_t Linear::converted_bytes(const Kernels& kernels, const LinearTypes& types, int64_t rows,
                                int64_t depth) {
  if (types.quantization != Quantization::none) {
    const int64_t groups = (depth + kQuantGroup - 1) / kQuantGroup;
    return rows * (groups * (kQuantGroup + int64_t{sizeof(int32_t)}) + int64_t{sizeof(float)});
  }
  return native_products(kernels, types) ? packed_elements(kernels, rows, depth) * int64_t{sizeof(uint16_t)}
                                         : 0;
}

// The tasks of projections of the same rows: blocks of columns of the first, then of the second, ...
class Linear::Product {
 public:
  Product(const Context& context, ProductScratch& scratch, std::span<const Projection> all, const float* x,
          int64_t rows)
      : context_(context), kernels_(*context.kernels), all_(all), x_(x), rows_(rows) {
    const int64_t depth = all.front().linear->in();
    for (const Projection& one : all) {
      const Linear& linear = *one.linear;
      FOVEA_CHECK(linear.in() == depth);
      FOVEA_CHECK(linear.weight().data != nullptr || linear.quantized_ != nullptr ||
                  linear.blocks_.data != nullptr);  // else a lease is missing
      cols_ += linear.out();
      of_thread_ = std::max(of_thread_, linear.product_scratch_bytes(kernels_));
      if (rows > kFewRows) tasks_ += tasks_of(linear);
      if (linear.quantized_ != nullptr && quantized_.values == nullptr) {
        quantized_ = quantized_rows(context, scratch, x, rows, depth, linear.quantized_->depth());
      } else if (linear.native(kernels_) && bf16_ == nullptr) {
        bf16_ = bf16_rows(context, scratch, x, rows, depth);
      }
    }
    scratch.of_threads.reserve(context.threads() * of_thread_);
    scratch_ = scratch.of_threads.data();
    if (rows <= kFewRows) {
      while (streamed_piece(tasks_).of != nullptr) ++tasks_;
    }
  }

  int64_t tasks() const { return tasks_; }

  void run(int64_t task, int worker) const {
    const Piece piece = piece_of(task);
    const Linear& linear = *piece.of->linear;
    const int64_t stride = piece.of->y_stride;
    float* y = piece.of->y + piece.row * stride + piece.col;
    // While all threads advance alike, this one takes that task next.
    multiply(piece, y, memory_of(task + context_.threads()), scratch_ + worker * of_thread_);
    if (linear.quantized_ != nullptr) return;  // these products are finished
    // Bias and rounding in a pass of their own: behind each strip of a product they made prefill 2 to 3 %
    // slower (Zen 5).
    for (int64_t r = 0; r < piece.rows; ++r, y += stride) {
      if (linear.bias_.empty()) {
        round_serial(kernels_, y, piece.cols, linear.types_.output);
      } else {
        kernels_.add_rounded(y, linear.bias_.data() + piece.col, piece.cols, linear.types_.output);
      }
    }
  }

 private:
  struct Piece {
    const Projection* of;
    int64_t row, rows, col, cols;
  };

  int64_t cols_per_task(const Linear& linear) const {
    return linear.quantized_ != nullptr ? kernels_.quantized_product_cols : kernels_.product_cols;
  }
  int64_t tasks_of(const Linear& linear) const {
    return divide_up(linear.out(), cols_per_task(linear)) * divide_up(rows_, kRowsPerTask);
  }
  Piece piece_of(int64_t task) const {
    if (rows_ <= kFewRows) return streamed_piece(task);
    const Projection* of = all_.data();
    for (int64_t count = 0; task >= (count = tasks_of(*of->linear)); ++of) task -= count;
    const int64_t step = cols_per_task(*of->linear), col_tasks = divide_up(of->linear->out(), step);
    const int64_t row = task / col_tasks * kRowsPerTask, col = task % col_tasks * step;
    return {of, row, std::min(kRowsPerTask, rows_ - row), col, std::min(step, of->linear->out() - col)};
  }
  Piece streamed_piece(int64_t task) const {
    int64_t left = cols_;
    for (const Projection& of : all_) {
      for (int64_t col = 0, out = of.linear->out(); col < out; --task) {
        const int64_t cols = std::min(streamed_cols(left, context_.threads()), out - col);
        if (task == 0) return {&of, 0, rows_, col, cols};
        col += cols;
        left -= cols;
      }
    }
    return {};
  }
  Upcoming memory_of(int64_t task) const {
    if (task >= tasks_ || rows_ <= kFewRows) return {};  // few rows stream: they wait for no block
    const Piece piece = piece_of(task);
    const Linear& linear = *piece.of->linear;
    if (linear.quantized_ != nullptr) return linear.quantized_->memory_of(piece.col, piece.cols);
    if (linear.blocks_.data != nullptr) return {};
    const MatrixView& weight = linear.weight();
    return {weight.row(piece.col), piece.cols * weight.stride * static_cast<int64_t>(bytes_of(weight.dtype))};
  }

  void multiply(const Piece& piece, float* y, const Upcoming& next, void* scratch) const {
    const Linear& linear = *piece.of->linear;
    const int64_t depth = linear.in(), stride = piece.of->y_stride;
    if (linear.quantized_ != nullptr) {
      const QuantizedRows& q = quantized_;
      const QuantizedRows from{q.values + piece.row * q.depth, q.scales + piece.row,
                               q.sums + piece.row * (q.depth / kQuantGroup), q.depth};
      linear.quantized_->multiply(kernels_,
                                  {.x = from,
                                   .y = y,
                                   .ldy = stride,
                                   .rows = piece.rows,
                                   .cols = piece.cols,
                                   .bias = linear.bias_.empty() ? nullptr : linear.bias_.data() + piece.col,
                                   .round = linear.types_.output,
                                   .next = next,
                                   .scratch = scratch},
                                  piece.col);
      return;
    }
    const uint16_t* bf16 =
        linear.native(kernels_) ? bf16_ + packed_elements(kernels_, piece.row, depth) : nullptr;
    const float* x = x_ + piece.row * depth;
    if (linear.blocks_.data != nullptr) {
      linear.multiply_blocks(kernels_, piece.col, x, bf16, piece.rows, piece.cols, y, stride,
                             static_cast<char*>(scratch));
    } else {
      linear.multiply_view(kernels_, linear.weight(), piece.col, x, bf16, piece.rows, piece.cols, y, stride,
                           next, scratch);
    }
  }

  const Context& context_;
  const Kernels& kernels_;
  std::span<const Projection> all_;
  const float* x_;
  int64_t rows_, tasks_ = 0, cols_ = 0;
  char* scratch_ = nullptr;
  int64_t of_thread_ = 0;
  // x in the forms that the products want.
  const uint16_t* bf16_ = nullptr;
  QuantizedRows quantized_{};
};

// `bf16`: the rows of x as native products want them; null: there are none.
void Linear::multiply_view(const Kernels& kernels, const MatrixView& view, int64_t col, const float* x,
                           const uint16_t* bf16, int64_t rows, int64_t cols, float* y, int64_t stride,
                           const Upcoming& next, void* scratch) const {
  if (bf16 == nullptr) return multiply_widened(kernels, x, view, col, rows, cols, y, stride, scratch);
  kernels.matmul_nt_bf16_bf16(bf16, static_cast<const uint16_t*>(view.row(col)), view.cols, y, stride, rows,
                              cols, view.cols, next, scratch);
}

// Some rows of the weight at a time, which then stay in cache: the order of each sum depends on depth alone.
void Linear::multiply_blocks(const Kernels& kernels, int64_t col, const float* x, const uint16_t* bf16,
                             int64_t rows, int64_t cols, float* y, int64_t stride, char* scratch) const {
  const int64_t depth = in(), row_bytes = depth * static_cast<int64_t>(bytes_of(types_.weights));
  const int64_t strip = rows_unpacked(rows, row_bytes);
  char* unpacked = scratch + round_up(thread_scratch_bytes(kernels, types_, depth), kLine);
  for (int64_t n = 0; n < cols; n += strip) {
    const int64_t now = std::min(strip, cols - n);
    for (int64_t r = 0; r < now; ++r) {
      kernels.unpack_blocks(blocks_.format, blocks_.data + (col + n + r) * blocks_.row_bytes, depth,
                            types_.weights, unpacked + r * row_bytes);
    }
    multiply_view(kernels, {unpacked, types_.weights, now, depth, depth}, 0, x, bf16, rows, now, y + n,
                  stride, {}, scratch);
  }
}

// Of one thread: what the product needs, and rows that are unpacked.
int64_t Linear::product_scratch_bytes(const Kernels& kernels) const {
  const int64_t own = thread_scratch_bytes(kernels, types_, in());
  if (blocks_.data == nullptr) return own;
  const int64_t row_bytes = in() * static_cast<int64_t>(bytes_of(types_.weights));
  return round_up(round_up(own, kLine) + std::max(kUnpackedAtOnce, kFewestUnpacked * row_bytes), kLine);
}

bool Linear::native(const Kernels& kernels) const {
  return quantized_ == nullptr && native_products(kernels, types_) && weight().dtype == DType::bf16;
}

void Linear::apply_all(const Context& context, ProductScratch& scratch, std::span<const Projection> all,
                       const float* x, int64_t rows) {
  const Product product(context, scratch, all, x, rows);
  context.parallel_for(product.tasks(), [&](int64_t task, int worker) { product.run(task, worker); });
}

void Linear::apply(const Context& context, ProductScratch& scratch, const float* x, int64_t rows, float* y,
                   int64_t y_stride) const {
  const Projection one{this, y, y_stride};
  apply_all(context, scratch, {&one, 1}, x, rows);
}

}  // namespace fovea
