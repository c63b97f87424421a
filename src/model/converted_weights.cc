#include "model/converted_weights.h"

#include "model/quantized_matrix.h"
#include "model/weight_nodes.h"

namespace fovea {

// What a matrix is quantized from lives no longer than that takes, unless rows of it are looked up, too.
ConvertedWeights::ConvertedWeights(const Checkpoint& checkpoint, const Precision& precision,
                                   const std::function<bool(const TensorInfo&)>& held) {
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    const bool unused = is_unread(tensor, checkpoint, precision.text.tower.head);
    if (tensor.shape.size() < 2 || unused || (held && !held(tensor))) continue;
    const auto [type, quantization] = wanted_weight(tensor.name, precision, checkpoint);
    const bool plain = tensor.format == WeightFormat::plain, quantizes = quantization != Quantization::none;
    if (!plain && quantizes && quantization == quantization_of(tensor.format)) continue;
    if (computed_from_blocks(tensor) && !quantizes) continue;
    if ((!quantizes || is_embedding(tensor.name)) &&
        (!plain || (type != DType::f32 && type != tensor.dtype))) {
      copies_[{tensor.name, type, Quantization::none}] =
          tensor.elements() * static_cast<int64_t>(bytes_of(type));
    }
    if (quantizes) {
      copies_[{tensor.name, type, quantization}] =
          QuantizedMatrix::bytes_for(tensor.shape[0], tensor.elements() / tensor.shape[0], quantization);
    }
  }
}

int64_t ConvertedWeights::bytes() const {
  int64_t bytes = 0;
  for (const auto& [copy, size] : copies_) bytes += size;
  return bytes;
}

}  // namespace fovea
