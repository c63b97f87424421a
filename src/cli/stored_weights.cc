#include "cli/stored_weights.h"

#include "model/weight_nodes.h"

namespace fovea {

std::string stored_as(const TensorInfo& tensor) {
  const QuantizedParts& parts = tensor.parts;
  switch (tensor.format) {
    case WeightFormat::plain:
      return name_of(tensor.dtype);
    case WeightFormat::w8a8:
    case WeightFormat::int4:
      return name_of(tensor.format);
    case WeightFormat::blocks:
      return name_of(tensor.blocks);
    default:
      return fmt::format("{} of {} bits, groups of {}", name_of(tensor.format), parts.bits, parts.group_size);
  }
}

HeldWeights held_weights(const Engine& engine) {
  HeldWeights held;
  const Checkpoint& checkpoint = engine.checkpoint();
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    held.bytes += tensor.bytes();
    const std::string form = stored_as(tensor);
    held.stored_as[form] += tensor.bytes();
    if (tensor.format == WeightFormat::plain) continue;
    if (is_unread(tensor, checkpoint, engine.precision().text.tower.head)) continue;
    const auto [type, quantization] = wanted_weight(tensor.name, engine.precision(), checkpoint);
    const bool as_stored = quantization == Quantization::none
                               ? computed_from_blocks(tensor)
                               : quantization == quantization_of(tensor.format);
    if (as_stored || held.widened.find(form) != std::string::npos) continue;
    held.widened += (held.widened.empty() ? "" : "; ") + form;
    held.type = name_of(type);
  }
  return held;
}

}  // namespace fovea
