// The names of tensors in PEFT's adapter files.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fovea {

enum class LoraRole {
  down,       // lora_A [rank, in]
  up,         // lora_B [out, rank]
  magnitude,  // of DoRA [out]
  whole,      // takes the place of a tensor: modules_to_save, trained biases
};

struct LoraName {
  LoraRole role = LoraRole::whole;
  bool base_layer = false;  // a whole tensor beneath low-rank parts: an embedding that PEFT saves with them
  bool embedding = false;   // lora_embedding_A [rank, vocabulary], lora_embedding_B [size, rank]
  std::string module;       // as the file has it, without PEFT's own parts: "model.layers.0.mlp.up_proj"
  std::string tensor;       // the canonical one that it changes: "model.language_model.layers.0....weight"
};

// nullopt for a name that no adapter of a Qwen2.5-VL has.
std::optional<LoraName> parse_lora_name(std::string_view name);

// "model.visual.merger.mlp.0.weight" -> "model.visual.merger.mlp.0".
std::string module_of_tensor(std::string_view tensor);

// Whether `pattern` of adapter_config.json means the module of a canonical tensor, by any of the names it
// has.
bool names_module_of(std::string_view pattern, std::string_view canonical_tensor);

}  // namespace fovea
