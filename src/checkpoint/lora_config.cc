#include "checkpoint/lora_config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

using nlohmann::json;

constexpr size_t kMaxPatterns = 65536;
constexpr double kMaxRank = 1 << 14, kMaxAlpha = 1e6;
constexpr const char* kMergeWithPeft =
    "merge it with PEFT: "
    "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)";

[[noreturn]] void refuse(const std::string& message, const std::string& remedy) {
  throw Error(ErrorKind::unsupported, message, remedy);
}

// "^a\.b$" -> "a.b" and whether it is tied to the beginning.
struct Literal {
  std::string text;
  bool from_start = false;
};

// nullopt: a regular expression.
std::optional<Literal> literal_of(std::string_view pattern) {
  Literal literal;
  if (pattern.starts_with('^')) {
    literal.from_start = true;
    pattern.remove_prefix(1);
  }
  if (pattern.ends_with('$')) pattern.remove_suffix(1);
  for (size_t i = 0; i < pattern.size(); ++i) {
    const bool escaped = pattern[i] == '\\' && i + 1 < pattern.size() && pattern[i + 1] == '.';
    if (escaped) ++i;
    const char c = pattern[i];
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
    if (!plain) return std::nullopt;
    literal.text += c;
  }
  if (literal.text.empty()) return std::nullopt;
  return literal;
}

// rank_pattern or alpha_pattern; returns whether a key was left out because it is a regular expression.
bool read_patterns(JsonFields& fields, const std::string& field, double most, ModuleNumbers& numbers) {
  numbers.field = fields.name_of(field);
  const json* patterns = fields.get(field);
  bool left_out = false;
  if (patterns == nullptr) return false;
  JsonFields entries(*patterns, numbers.field);
  if (patterns->size() > kMaxPatterns) {
    throw Error(
        ErrorKind::exhausted,
        fmt::format("{} has {} entries, the limit is {}", numbers.field, patterns->size(), kMaxPatterns),
        "check that it is the right file");
  }
  for (const auto& [pattern, ignored] : patterns->items()) {
    const double number = entries.number(pattern, 0, 0, most);
    if (literal_of(pattern)) {
      numbers.by_pattern[pattern] = number;
    } else {
      left_out = true;
    }
  }
  return left_out;
}

// Fields that are a list of names, or a regular expression.
std::optional<std::vector<std::string>> names_in(JsonFields& fields, const std::string& field) {
  const json* value = fields.get(field);
  if (value == nullptr) return std::vector<std::string>{};
  if (value->is_string()) return std::nullopt;
  return value->empty() && value->is_array() ? std::vector<std::string>{} : fields.string_or_list(field);
}

bool says_something(const json* value) {
  if (value == nullptr || value->is_null()) return false;
  if (value->is_boolean()) return value->get<bool>();
  if (value->is_array() || value->is_object() || value->is_string()) return !value->empty() && *value != "";
  return true;
}

// These begin with a base that is not the published one, and PEFT changes it when it loads them.
void refuse_changed_base(JsonFields& fields) {
  const json* value = fields.get("init_lora_weights");
  if (value == nullptr || !value->is_string()) return;
  const std::string kind = value->get<std::string>();
  for (const char* harmless : {"gaussian", "orthogonal", "eva", "true", "false", "True", "False"}) {
    if (kind == harmless) return;
  }
  refuse(fmt::format("{} is {}: such an adapter belongs to a base that was changed when training began",
                     fields.name_of("init_lora_weights"), fields.shown("init_lora_weights")),
         "save it as a plain adapter: save_pretrained(..., path_initial_model_for_weight_conversion=...) of "
         "PEFT");
}

void refuse_variants(JsonFields& fields) {
  for (const char* field :
       {"layer_replication", "trainable_token_indices", "target_parameters", "alora_invocation_tokens",
        "use_qalora", "use_bdlora", "arrow_config", "megatron_config", "lora_bias", "fan_in_fan_out",
        "velora_config", "monteclora_config"}) {
    if (!says_something(fields.get(field))) continue;
    refuse(fmt::format("{} is {}, and fovea does not do it", fields.name_of(field), fields.shown(field)),
           kMergeWithPeft);
  }
  refuse_changed_base(fields);
  const std::string bias = fields.string("bias", "none");
  if (bias != "none" && bias != "all" && bias != "lora_only") {
    refuse(fmt::format("{} is {}", fields.name_of("bias"), fields.shown("bias")), kMergeWithPeft);
  }
}

void read_modules(JsonFields& fields, LoraConfig& config) {
  std::optional<std::vector<std::string>> targets = names_in(fields, "target_modules");
  const std::optional<std::vector<std::string>> excluded = names_in(fields, "exclude_modules");
  const bool some_layers = says_something(fields.get("layers_to_transform"));
  fields.get("layers_pattern");
  if (targets && excluded && !some_layers) {
    config.targets = std::move(targets);
    config.excluded = *excluded;
  }
  const std::optional<std::vector<std::string>> saved = names_in(fields, "modules_to_save");
  if (!saved) {
    throw Error(ErrorKind::corrupt,
                fmt::format("{} is {}, not a list", fields.name_of("modules_to_save"),
                            fields.shown("modules_to_save")),
                "get the adapter again from its source");
  }
  config.saved = *saved;
}

}  // namespace

bool names_module(std::string_view pattern, std::string_view module) {
  const std::optional<Literal> literal = literal_of(pattern);
  if (!literal) return false;
  if (module == literal->text) return true;
  return !literal->from_start && module.size() > literal->text.size() && module.ends_with(literal->text) &&
         module[module.size() - literal->text.size() - 1] == '.';
}

bool ModuleNumbers::pattern_means(std::string_view module) const {
  return std::any_of(by_pattern.begin(), by_pattern.end(),
                     [&](const auto& entry) { return names_module(entry.first, module); });
}

double ModuleNumbers::of(std::string_view module) const {
  const std::pair<const std::string, double>* means = nullptr;
  for (const auto& entry : by_pattern) {
    if (!names_module(entry.first, module)) continue;
    if (means != nullptr && means->second != entry.second) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("{}: \"{}\" and \"{}\" both mean {} and differ", field, means->first,
                              entry.first, module),
                  "keep the one that training used");
    }
    means = &entry;
  }
  return means != nullptr ? means->second : otherwise;
}

double LoraConfig::scale(std::string_view module, int64_t rank_of_tensors) const {
  const auto r = static_cast<double>(rank_of_tensors);
  return alpha.of(module) / (rslora ? std::sqrt(r) : r);
}

LoraConfig parse_lora_config(std::string_view text, const std::string& file_name) {
  const json object = parse_json_object(text, file_name);
  JsonFields fields(object, file_name);
  if (const std::string type = fields.string("peft_type", "LORA"); type != "LORA") {
    refuse(fmt::format("{} is {}, and fovea applies LORA alone", fields.name_of("peft_type"),
                       fields.shown("peft_type")),
           kMergeWithPeft);
  }
  refuse_variants(fields);
  LoraConfig config;
  config.rank.otherwise = static_cast<double>(fields.integer("r", 8, 1, static_cast<int64_t>(kMaxRank)));
  config.alpha.otherwise = fields.number("lora_alpha", 8, -kMaxAlpha, kMaxAlpha);
  config.rank_is_stated = !read_patterns(fields, "rank_pattern", kMaxRank, config.rank);
  if (read_patterns(fields, "alpha_pattern", kMaxAlpha, config.alpha)) {
    refuse(fmt::format("{} has a regular expression as key", config.alpha.field),
           "write the names of the modules out, or merge the adapter with PEFT");
  }
  config.rslora = fields.boolean("use_rslora", false);
  config.dora = fields.boolean("use_dora", false);
  config.tie_saved_embedding = fields.boolean("ensure_weight_tying", false);
  config.biases = fields.string("bias", "none") != "none";
  config.base = fields.string("base_model_name_or_path", "");
  read_modules(fields, config);
  fields.ignore({"auto_mapping", "corda_config", "eva_config", "inference_mode", "loftq_config",
                 "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision",
                 "runtime_config", "task_type", "lora_ga_config"});
  fields.warn_of_the_rest(config.warnings);
  return config;
}

}  // namespace fovea
