// The weights of a checkpoint as matrices of a wanted type: borrowed from its mapping where the stored type
// serves, otherwise converted once and shared by everyone who asks again.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include "base/buffer.h"
#include "checkpoint/checkpoint.h"
#include "model/quantized_matrix.h"

namespace fovea {

class WeightStore {
 public:
  // `checkpoint` is borrowed.
  explicit WeightStore(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const Checkpoint& checkpoint() const { return checkpoint_; }

  // The tensor with every value rounded to `type`. The stored form serves when it has that type, and for fp32
  // in any form, because kernels widen exactly. The view lives as long as the store. May be called from
  // several threads.
  MatrixView matrix(const std::string& tensor, DType type) const;
  // The same, quantized; not none. Made on first use, in parallel.
  const QuantizedMatrix& quantized(const std::string& tensor, DType type, Quantization quantization) const;
  // A 1-D tensor, each value rounded to `type`.
  std::vector<float> vector(const std::string& tensor, DType type) const;

 private:
  const Checkpoint& checkpoint_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<std::string, DType>, Buffer<uint16_t>> converted_;
  mutable std::map<std::tuple<std::string, DType, Quantization>, QuantizedMatrix> quantized_;
};

}  // namespace fovea
