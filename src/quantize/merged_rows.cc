#include "quantize/merged_rows.h"

#include <cmath>

#include "model/quantized_matrix.h"

namespace fovea {
namespace {

// A matrix in fp64, times `scale`.
std::vector<double> doubles(const MatrixView& view, double scale) {
  std::vector<double> values(static_cast<size_t>(view.rows * view.cols));
  std::vector<float> row(static_cast<size_t>(view.cols));
  for (int64_t r = 0; r < view.rows; ++r) {
    widen_row(*process_context().kernels, view, r, row.data());
    for (int64_t c = 0; c < view.cols; ++c)
      values[static_cast<size_t>(r * view.cols + c)] =
          scale * static_cast<double>(row[static_cast<size_t>(c)]);
  }
  return values;
}

std::vector<double> transposed(const std::vector<double>& values, int64_t rows, int64_t cols) {
  std::vector<double> result(values.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c)
      result[static_cast<size_t>(c * rows + r)] = values[static_cast<size_t>(r * cols + c)];
  }
  return result;
}

}  // namespace

MergedRows::MergedRows(const LoraChange& change, double scale)
    : rank_(change.rank()), cols_(change.embedding ? change.up.rows : change.down.cols) {
  left_ = doubles(change.embedding ? change.down : change.up, scale * change.scale);
  right_ = doubles(change.embedding ? change.up : change.down, 1);
  if (change.embedding) {
    left_ = transposed(left_, change.down.rows, change.down.cols);
    right_ = transposed(right_, change.up.rows, change.up.cols);
  }
  if (change.magnitude.data != nullptr) magnitude_ = doubles(change.magnitude, 1);
}

void MergedRows::add_to(int64_t r, double* row) const {
  for (int64_t k = 0; k < rank_; ++k) {
    const double factor = left_[static_cast<size_t>(r * rank_ + k)];
    const double* direction = right_.data() + k * cols_;
    for (int64_t c = 0; c < cols_; ++c) row[c] += factor * direction[c];
  }
  if (magnitude_.empty()) return;
  double squares = 0;
  for (int64_t c = 0; c < cols_; ++c) squares += row[c] * row[c];
  const double stretch = magnitude_[static_cast<size_t>(r)] / std::sqrt(squares);
  for (int64_t c = 0; c < cols_; ++c) row[c] *= stretch;
}

}  // namespace fovea
