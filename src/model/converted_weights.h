// The copies that a WeightStore makes of a checkpoint's matrices for a precision: converted, widened or
// quantized. Precisions share equal ones.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>

#include "base/precision.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

class ConvertedWeights {
 public:
  ConvertedWeights() = default;
  // Of the tensors that `held`, if it is given, wants. Nothing is read.
  ConvertedWeights(const Checkpoint& checkpoint, const Precision& precision,
                   const std::function<bool(const TensorInfo&)>& held = {});

  int64_t bytes() const;
  // Takes in what is not among these.
  void add(const ConvertedWeights& other) { copies_.insert(other.copies_.begin(), other.copies_.end()); }

 private:
  std::map<std::tuple<std::string, DType, Quantization>, int64_t> copies_;  // bytes
};

}  // namespace fovea
