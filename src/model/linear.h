// Projections: weights as the compute dtype wants them, and the threaded product.
#pragma once

#include <string>
#include <vector>

#include "base/buffer.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

// y = x W^T + b. The weight is borrowed from the checkpoint's mapping when its stored type serves the compute
// dtype (equal, or any type under fp32, which widens exactly); otherwise it is converted once, at load, into
// own memory.
class Linear {
 public:
  Linear() = default;
  // Loads "<name>.weight" and, if present in the checkpoint, "<name>.bias" (rounded to `compute`).
  Linear(const Checkpoint& checkpoint, const std::string& name, DType compute);
  // A weight without bias whose full tensor name is given (embedding used as output head).
  static Linear of_weight(const Checkpoint& checkpoint, const std::string& tensor, DType compute);

  int64_t in() const { return weight_.cols; }
  int64_t out() const { return weight_.rows; }

  // x: [rows, in] f32 holding values of the compute dtype; y: [rows, out] f32 with row stride `y_stride`.
  // Products are accumulated in f32, the bias added, and the result rounded once to the compute dtype (one
  // rounding per output, as a fused addmm does). Every row's result is independent of the other rows, bit for
  // bit.
  void apply(const float* x, int64_t rows, float* y, int64_t y_stride) const;
  void apply(const float* x, int64_t rows, float* y) const { apply(x, rows, y, out()); }

  // Row r widened to f32 (an embedding look-up), [in].
  void row(int64_t r, float* out) const;

 private:
  Linear(const Checkpoint& checkpoint, const std::string& weight, const std::string& bias, DType compute);

  DType compute_ = DType::f32;
  MatrixView weight_;
  Buffer<uint16_t> converted_;
  std::vector<float> bias_;
};

// A 1-D tensor of the checkpoint, each value rounded to `type`.
std::vector<float> rounded_vector(const Checkpoint& checkpoint, const std::string& name, DType type);

// x = the nearest value of `type`, in place, in parallel for large counts.
void round_to(float* x, int64_t count, DType type);

}  // namespace fovea
