// Which nodes of the precision speak of a weight.
#pragma once

#include <string>

#include "base/precision.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

// How a forward pass wants a matrix (VisionTower, Decoder).
struct WantedWeight {
  DType type;  // rounded to, before it is quantized
  Quantization quantization;
};

// Of a tensor of two or more dimensions under its canonical name.
WantedWeight wanted_weight(const std::string& name, const Precision& precision, const Checkpoint& checkpoint);

// The tensor that the output head multiplies by. A tied one may have a quantized copy of its own.
std::string head_tensor(const Checkpoint& checkpoint, Quantization head);

// Whether rows of a tensor are looked up, so that it is kept as it is beside a quantized copy.
bool is_embedding(const std::string& name);

// Whether nothing is multiplied by a tensor: a stored output head where the tied embedding serves as one.
bool is_unread(const TensorInfo& tensor, const Checkpoint& checkpoint, Quantization head);

// Whether products read a matrix as it is stored in blocks (Linear), so that no copy is made of it.
bool computed_from_blocks(const TensorInfo& tensor);

// What a matrix of this format can be multiplied as; none for the others.
Quantization quantization_of(WeightFormat format);

}  // namespace fovea
