#include "checkpoint/lora_names.h"

#include "checkpoint/lora_config.h"
#include "checkpoint/tensor_names.h"

namespace fovea {
namespace {

constexpr std::string_view kBase = "base_model.model.";
constexpr std::string_view kModel = "model.", kText = "model.language_model.";

bool cut_end(std::string_view& text, std::string_view end) {
  if (!text.ends_with(end)) return false;
  text.remove_suffix(end.size());
  return true;
}

// Parts that PEFT adds to a module's name, here without its own name for the adapter.
struct Part {
  std::string_view text;
  LoraRole role;
  bool embedding;
};
constexpr Part kParts[] = {
    {".lora_A", LoraRole::down, false},
    {".lora_B", LoraRole::up, false},
    {".lora_embedding_A", LoraRole::down, true},
    {".lora_embedding_B", LoraRole::up, true},
    {".lora_magnitude_vector", LoraRole::magnitude, false},
};

// The four prefixes in use: those of both eras, and "language_model." of a model that was trained without its
// head.
std::optional<std::string> canonical(const std::string& name) {
  if (name.starts_with("language_model.")) return std::string(kModel) + name;
  return canonical_tensor_name(name);
}

}  // namespace

std::optional<LoraName> parse_lora_name(std::string_view name) {
  std::string_view left = name;
  if (left.starts_with(kBase)) left.remove_prefix(kBase.size());
  std::string_view end = ".weight";
  if (left.ends_with(".bias")) {
    end = ".bias";
    cut_end(left, end);
  } else {
    cut_end(left, end);
  }
  cut_end(left, ".default");
  LoraName result;
  for (const Part& part : kParts) {
    if (!cut_end(left, part.text)) continue;
    if (end == ".bias") return std::nullopt;
    result.role = part.role;
    result.embedding = part.embedding;
    break;
  }
  if (result.role == LoraRole::whole) result.base_layer = cut_end(left, ".base_layer");
  if (result.role == LoraRole::whole && !result.base_layer) cut_end(left, ".modules_to_save");
  result.module = left;
  const std::optional<std::string> tensor = canonical(result.module + std::string(end));
  if (!tensor || result.module.empty()) return std::nullopt;
  result.tensor = *tensor;
  return result;
}

std::string module_of_tensor(std::string_view tensor) {
  cut_end(tensor, ".weight") || cut_end(tensor, ".bias");
  return std::string(tensor);
}

bool names_module_of(std::string_view pattern, std::string_view canonical_tensor) {
  const std::string module = module_of_tensor(canonical_tensor);
  if (names_module(pattern, module)) return true;
  if (names_module(pattern, older_tensor_name(module))) return true;
  return module.starts_with(kText) && names_module(pattern, std::string_view(module).substr(kModel.size()));
}

}  // namespace fovea
