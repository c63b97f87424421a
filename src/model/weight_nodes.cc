#include "model/weight_nodes.h"

namespace fovea {

namespace {

constexpr const char *kEmbedding = "model.language_model.embed_tokens.weight", *kHead = "lm_head.weight";

// The nodes of the tensor's layer or block; null when it belongs to none.
const TowerPrecision* nodes_of_layer(const std::string& name, const Precision& precision) {
  const bool visual = name.starts_with("model.visual.");
  const std::string prefix = visual ? "model.visual.blocks." : "model.language_model.layers.";
  if (!name.starts_with(prefix)) return nullptr;
  return &(visual ? precision.vision : precision.text).layers.at(std::stoul(name.substr(prefix.size())));
}

}  // namespace

bool is_embedding(const std::string& name) { return name == kEmbedding; }

bool is_unread(const TensorInfo& tensor, const Checkpoint& checkpoint, Quantization head) {
  return tensor.name == "lm_head.weight" && head_tensor(checkpoint, head) != tensor.name;
}

bool computed_from_blocks(const TensorInfo& tensor) {
  if (tensor.format != WeightFormat::blocks) return false;
  switch (tensor.blocks) {
    case BlockFormat::q8_0:
    case BlockFormat::q4_k:
    case BlockFormat::q5_k:
    case BlockFormat::q6_k:
      return true;
    default:
      return false;
  }
}

Quantization quantization_of(WeightFormat format) {
  if (format == WeightFormat::w8a8) return Quantization::w8a8;
  return format == WeightFormat::int4 ? Quantization::int4 : Quantization::none;
}

std::string head_tensor(const Checkpoint& checkpoint, Quantization head) {
  const bool tied = checkpoint.config().text.tie_word_embeddings;
  return checkpoint.has(kHead) && (!tied || head != Quantization::none) ? kHead : kEmbedding;
}

WantedWeight wanted_weight(const std::string& name, const Precision& precision,
                           const Checkpoint& checkpoint) {
  if (const TowerPrecision* nodes = nodes_of_layer(name, precision)) {
    const bool projection = name.ends_with("proj.weight") || name.ends_with("attn.qkv.weight"),
               mlp = name.find(".mlp.") != std::string::npos;
    const Quantization quantization = mlp ? nodes->mlp_quantization : nodes->quantization;
    return {nodes->weights, projection ? quantization : Quantization::none};
  }
  const LayeredPrecision& tower = name.starts_with("model.visual.") ? precision.vision : precision.text;
  const Quantization head = precision.text.tower.head;
  return {tower.tower.weights, name == head_tensor(checkpoint, head) ? head : Quantization::none};
}

}  // namespace fovea
