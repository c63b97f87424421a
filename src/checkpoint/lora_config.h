// adapter_config.json of PEFT: what a LoRA adapter's tensors mean.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// Whether PEFT's pattern, a module's name or the end of one after a dot, means the module. Both are paths
// without ".weight". A leading ^ ties it to the beginning, and \. is a dot.
bool names_module(std::string_view pattern, std::string_view module);

// One number for each module: that of the pattern which means it, else one for all.
struct ModuleNumbers {
  double otherwise = 0;
  std::map<std::string, double> by_pattern;
  std::string field;  // "adapter_config.json: rank_pattern", for errors

  bool pattern_means(std::string_view module) const;
  // Throws Error(invalid_argument) when two patterns mean the module and differ.
  double of(std::string_view module) const;
};

struct LoraConfig {
  ModuleNumbers rank, alpha;
  bool rank_is_stated = true;  // false: some key of rank_pattern is a regular expression, which nobody reads
  bool rslora = false;         // the scale is alpha / sqrt(rank) instead of alpha / rank
  bool dora = false;
  bool tie_saved_embedding = false;  // ensure_weight_tying: a saved embedding is the head, too
  bool biases = false;               // some were trained as well
  // Modules that must have tensors; no list where PEFT takes a regular expression or certain layers alone.
  std::optional<std::vector<std::string>> targets;
  std::vector<std::string> excluded;
  std::vector<std::string> saved;  // modules_to_save
  std::string base;                // base_model_name_or_path
  std::vector<std::string> warnings;

  double scale(std::string_view module, int64_t rank_of_tensors) const;
};

// Throws Error(corrupt | invalid_argument | unsupported) naming the field, for every variant of LoRA whose
// tensors mean something else.
LoraConfig parse_lora_config(std::string_view text, const std::string& file_name);

}  // namespace fovea
