// Matrices that a checkpoint stores in several tensors: values, scales, zero points.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"

namespace fovea {

// What packed matrices of 8 and 4 bits (WeightFormat::w8a8, int4) are rounded up to.
inline constexpr int64_t kPackedColumns = 16, kPackedGroup = 64;

// Types and shapes of the tensors in which fovea quantize stores a matrix [out, in], as "<name>_packed" and
// "<name>_scale".
struct PackedLayout {
  StoredType value_type, scale_type;
  std::vector<int64_t> values, scales;
};
PackedLayout packed_layout(WeightFormat format, int64_t out, int64_t in);

class QuantizedTensors {
 public:
  explicit QuantizedTensors(const ModelConfig& config) : config_(config) {}

  // False when the tensor is no part of a quantized matrix under the config's method.
  bool take(const StoredTensor& stored, const std::string& file);
  // Appends a TensorInfo for each matrix. Throws Error(corrupt | not_found | unsupported) naming the part
  // that is missing, has another type or shape than the config implies, or points outside.
  void assemble(const std::vector<ExpectedTensor>& expected, std::vector<TensorInfo>& tensors) const;

 private:
  struct Matrix {
    std::string stem;  // the module's name in the file
    std::string file;
    std::map<std::string, const StoredTensor*> parts;  // by suffix: "qweight"
  };

  const StoredTensor& part(const Matrix& matrix, const std::string& suffix, StoredType type,
                           const std::vector<int64_t>& shape) const;
  const void* scales(const Matrix& matrix, const std::vector<int64_t>& shape, TensorInfo& info) const;
  void read_own(const Matrix& matrix, TensorInfo& info) const;
  void read_awq(const Matrix& matrix, TensorInfo& info) const;
  void read_gptq(const Matrix& matrix, TensorInfo& info) const;

  const ModelConfig& config_;
  std::map<std::string, Matrix> matrices_;  // by canonical name
};

}  // namespace fovea
