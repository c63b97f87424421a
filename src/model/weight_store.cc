#include "model/weight_store.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/kernels.h"

namespace fovea {

MatrixView WeightStore::matrix(const std::string& tensor, DType type) const {
  const MatrixView source = checkpoint_.matrix(tensor);
  if (type == DType::f32 || source.dtype == type) return source;
  const std::lock_guard lock(mutex_);
  Buffer<uint16_t>& copy = converted_[{tensor, type}];
  if (copy.size() == 0) {
    Buffer<uint16_t> values(source.rows * source.cols);
    parallel_for(source.rows, [&](int64_t r) {
      std::vector<float> wide(static_cast<size_t>(source.cols));
      widen_row(source, r, wide.data());
      uint16_t* to = values.data() + r * source.cols;
      type == DType::bf16 ? kernels().bf16_from_f32(wide.data(), to, source.cols)
                          : kernels().f16_from_f32(wide.data(), to, source.cols);
    });
    copy = std::move(values);
  }
  return {copy.data(), type, source.rows, source.cols, source.cols};
}

const QuantizedMatrix& WeightStore::quantized(const std::string& tensor, DType type,
                                              Quantization quantization) const {
  const MatrixView source = matrix(tensor, type);
  const std::lock_guard lock(mutex_);
  QuantizedMatrix& made = quantized_[{tensor, type, quantization}];
  if (made.rows() == 0) made = QuantizedMatrix(source, quantization);
  return made;
}

std::vector<float> WeightStore::vector(const std::string& tensor, DType type) const {
  std::vector<float> values = checkpoint_.vector(tensor);
  for (float& value : values) value = rounded(value, type);
  return values;
}

}  // namespace fovea
