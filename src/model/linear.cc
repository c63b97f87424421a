#include "model/linear.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/kernels.h"

namespace fovea {

namespace {

// Blocks handed to one thread at a time: rows of x that stay in the shared cache, columns whose widened
// weights stay in a core's own.
constexpr int64_t kRowsPerTask = 512;
constexpr int64_t kColsPerTask = 96;
// A single token only streams weights: long runs, few tasks.
constexpr int64_t kColsPerTaskStreaming = 256;

void round_serial(float* x, int64_t count, DType type) {
  if (type == DType::bf16) kernels().round_bf16(x, count);
  if (type == DType::f16) kernels().round_f16(x, count);
}

// A matrix whose weights are wanted in bf16 is one of bf16 (WeightStore).
bool native_products(const LinearTypes& types) {
  return types.weights == DType::bf16 && types.input == DType::bf16 &&
         kernels().matmul_nt_bf16_bf16 != nullptr;
}

}  // namespace

void round_to(float* x, int64_t count, DType type) {
  if (type == DType::f32) return;
  constexpr int64_t kPiece = 1 << 15;
  parallel_for((count + kPiece - 1) / kPiece, [&](int64_t piece) {
    const int64_t begin = piece * kPiece;
    round_serial(x + begin, std::min(kPiece, count - begin), type);
  });
}

void widen_row(const MatrixView& view, int64_t row, float* out) {
  const Kernels& k = kernels();
  switch (view.dtype) {
    case DType::f32:
      std::copy_n(static_cast<const float*>(view.row(row)), view.cols, out);
      break;
    case DType::bf16:
      k.f32_from_bf16(static_cast<const uint16_t*>(view.row(row)), out, view.cols);
      break;
    case DType::f16:
      k.f32_from_f16(static_cast<const uint16_t*>(view.row(row)), out, view.cols);
      break;
    case DType::f64:
      FOVEA_CHECK(!"no tensor is stored in fp64");
  }
}

Linear::Linear(const WeightStore& store, const std::string& name, const LinearTypes& types)
    : Linear(of_weight(store, name + ".weight", types)) {
  if (store.checkpoint().has(name + ".bias")) bias_ = store.vector(name + ".bias", types.weights);
}

Linear Linear::of_weight(const WeightStore& store, const std::string& tensor, const LinearTypes& types) {
  return of_matrix(store.matrix(tensor, types.weights), types);
}

Linear Linear::of_matrix(const MatrixView& weight, const LinearTypes& types) {
  Linear linear;
  linear.types_ = types;
  linear.weight_ = weight;
  return linear;
}

void Linear::row(int64_t r, float* out) const { widen_row(weight_, r, out); }

int64_t Linear::scratch_bytes(const LinearTypes& types, int64_t rows, int64_t depth) {
  return native_products(types) ? rows * depth * int64_t{sizeof(uint16_t)} : 0;
}

void Linear::apply(const float* x, int64_t rows, float* y, int64_t y_stride) const {
  const Kernels& k = kernels();
  const int64_t depth = in();
  const bool native = native_products(types_) && weight_.dtype == DType::bf16;
  Buffer<uint16_t> narrow_x;
  if (native) {
    narrow_x.resize(rows * depth);
    constexpr int64_t kRows = 16;
    parallel_for((rows + kRows - 1) / kRows, [&](int64_t piece) {
      const int64_t begin = piece * kRows * depth;
      k.bf16_from_f32(x + begin, narrow_x.data() + begin, std::min(kRows * depth, rows * depth - begin));
    });
  }
  const int64_t cols_per_task = rows <= 4 ? kColsPerTaskStreaming : kColsPerTask;
  const int64_t col_tasks = (out() + cols_per_task - 1) / cols_per_task;
  const int64_t row_tasks = (rows + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(col_tasks * row_tasks, [&](int64_t task) {
    const int64_t row = task / col_tasks * kRowsPerTask, col = task % col_tasks * cols_per_task;
    const int64_t rows_now = std::min(kRowsPerTask, rows - row),
                  cols_now = std::min(cols_per_task, out() - col);
    float* tile = y + row * y_stride + col;
    const float* xs = x + row * depth;
    const void* w = weight_.row(col);
    const auto* w16 = static_cast<const uint16_t*>(w);
    if (native) {
      k.matmul_nt_bf16_bf16(narrow_x.data() + row * depth, depth, w16, depth, tile, y_stride, rows_now,
                            cols_now, depth);
    } else if (weight_.dtype == DType::f32) {
      k.matmul_nt_f32(xs, depth, static_cast<const float*>(w), depth, tile, y_stride, rows_now, cols_now,
                      depth);
    } else {
      const auto product = weight_.dtype == DType::bf16 ? k.matmul_nt_bf16 : k.matmul_nt_f16;
      product(xs, depth, w16, depth, tile, y_stride, rows_now, cols_now, depth);
    }
    for (int64_t r = 0; r < rows_now; ++r) {
      float* out_row = tile + r * y_stride;
      if (!bias_.empty()) {
        for (int64_t c = 0; c < cols_now; ++c) out_row[c] += bias_[static_cast<size_t>(col + c)];
      }
      round_serial(out_row, cols_now, types_.output);
    }
  });
}

}  // namespace fovea
