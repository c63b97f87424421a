#include "checkpoint/adapter_files.h"

#include "base/error.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/strict_json.h"
#include "checkpoint/weight_files.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";

// A short string of the file, with what a terminal would obey escaped; empty where there is none.
std::string field_of(const nlohmann::json& config, const char* field) {
  const auto found = config.find(field);
  if (found == config.end() || !found->is_string()) return {};
  const std::string text = found->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() <= 2 ? "" : text.substr(0, 120);
}

std::string described(const fs::path& file) {
  std::string kind = "an adapter", base;
  try {
    const nlohmann::json config = parse_json_object(read_json_text(file), file.string());
    const std::string type = field_of(config, "peft_type");
    if (type == "\"LORA\"") kind = "a LoRA adapter";
    if (type != "\"LORA\"" && !type.empty()) kind = "an adapter of type " + type;
    base = field_of(config, "base_model_name_or_path");
  } catch (const Error&) {  // its presence says enough
  }
  return kind + (base.empty() ? "" : " for " + base);
}

}  // namespace

std::optional<std::string> adapter_in(const fs::path& dir) {
  if (path_exists(dir / kConfig)) return fmt::format("{} ({})", described(dir / kConfig), kConfig);
  for (const char* weights : {"adapter_model.safetensors", "adapter_model.bin"}) {
    if (path_exists(dir / weights)) return fmt::format("an adapter ({})", weights);
  }
  return std::nullopt;
}

void refuse_adapter_alone(const fs::path& dir) {
  const char* missing = !path_exists(dir / "config.json") ? "config.json" : "weights";
  if (has_weight_files(dir) && path_exists(dir / "config.json")) return;
  const std::optional<std::string> adapter = adapter_in(dir);
  if (!adapter) return;
  throw Error(
      ErrorKind::unsupported,
      fmt::format("{} holds {} and no {}: it is no model by itself", dir.string(), *adapter, missing),
      fmt::format("merge it into its base model: fovea merge -m BASE --lora {} --out DIR", dir.string()));
}

}  // namespace fovea
