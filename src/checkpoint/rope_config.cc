#include "checkpoint/rope_config.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace fovea {
namespace {

constexpr int64_t kMaxSection = 1 << 20;
constexpr int64_t kMaxPosition = int64_t{1} << 31;
constexpr double kMaxFactor = 1e6;

[[noreturn]] void refuse(const JsonFields& fields, const char* field, const std::string& why,
                         const char* remedy = "get the file again from its source, or correct the field") {
  throw Error(ErrorKind::invalid_argument, fields.name_of(field) + " " + why, remedy);
}

// "type" is the older spelling of "rope_type", "mrope" the older name of "default". transformers 4 reads the
// former, 5 the latter, where they contradict each other.
std::string read_type(JsonFields& rope) {
  const auto named = [&](const char* field, const std::string& absent) {
    const std::string type = rope.string(field, absent);
    return type == "mrope" ? "default" : type;
  };
  const std::string type = named("type", named("rope_type", "default")), newer = named("rope_type", type);
  if (type != newer) {
    refuse(rope, "type", fmt::format("is \"{}\", rope_type \"{}\"", type.substr(0, 40), newer.substr(0, 40)),
           "make both the same: transformers 4 reads the first, 5 the second");
  }
  if (type != "default" && type != "yarn") {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} is \"{}\"", rope.name_of(rope.has("type") ? "type" : "rope_type"),
                            type.substr(0, 40)),
                "\"mrope\", \"default\" and \"yarn\" are supported; remove the long-context scaling from the "
                "config, or use yarn");
  }
  return type;
}

// Zero counts as absent for some fields, as in Python's `x or default`.
double number_or(JsonFields& rope, const char* field, double absent) {
  if (rope.number(field, 0, 0, kMaxFactor) == 0) return absent;
  return rope.number(field, absent, 1e-3, kMaxFactor);
}

double magnitude(double factor, double scale) { return factor <= 1 ? 1 : 0.1 * scale * std::log(factor) + 1; }

// _compute_yarn_parameters of transformers, the part that depends on no pair.
YarnScaling read_yarn(JsonFields& rope, JsonFields& text, const TextConfig& config) {
  YarnScaling yarn;
  yarn.original_max_position_embeddings =
      rope.integer("original_max_position_embeddings", 0, 0, kMaxPosition);
  if (yarn.original_max_position_embeddings == 0) {
    yarn.original_max_position_embeddings = config.max_position_embeddings;
  }
  if (text.has("original_max_position_embeddings")) {
    refuse(text, "original_max_position_embeddings", "stands outside rope_scaling",
           "move it into rope_scaling, where every version of transformers reads it");
  }
  const double implied = static_cast<double>(config.max_position_embeddings) /
                         static_cast<double>(yarn.original_max_position_embeddings);
  if (!rope.has("factor") && implied <= 1) refuse(rope, "factor", "is missing");
  yarn.factor = rope.number("factor", implied, 1, kMaxFactor);
  yarn.beta_fast = number_or(rope, "beta_fast", 32);
  yarn.beta_slow = number_or(rope, "beta_slow", 1);
  const double mscale = rope.number("mscale", 0, 0, kMaxFactor),
               mscale_all_dim = rope.number("mscale_all_dim", 0, 0, kMaxFactor);
  yarn.attention_factor = mscale != 0 && mscale_all_dim != 0
                              ? magnitude(yarn.factor, mscale) / magnitude(yarn.factor, mscale_all_dim)
                              : magnitude(yarn.factor, 1);
  yarn.attention_factor = rope.number("attention_factor", yarn.attention_factor, 1e-3, 1e3);
  yarn.truncate = rope.boolean("truncate", true);
  if (config.rope_theta <= 1) refuse(text, "rope_theta", "is 1, with which yarn has no bounds");
  return yarn;
}

}  // namespace

void read_rope(JsonFields& text, const std::string& where, TextConfig& config,
               std::vector<std::string>& warnings) {
  const nlohmann::json* scaling = text.get("rope_scaling");
  const nlohmann::json* parameters = text.get("rope_parameters");
  if (scaling != nullptr && parameters != nullptr) {
    refuse(text, "rope_parameters", "is stated beside rope_scaling", "keep one of the two");
  }
  const nlohmann::json* chosen = scaling != nullptr ? scaling : parameters;
  const char* field = parameters != nullptr ? "rope_parameters" : "rope_scaling";
  if (chosen == nullptr) {
    refuse(text, field, "is missing: it holds mrope_section", "get the file again from its source");
  }
  JsonFields rope(*chosen, where + ": " + field);
  config.rope_theta = text.number("rope_theta", 1e6, 1, 1e15);
  config.rope_theta = rope.number("rope_theta", config.rope_theta, 1, 1e15);
  if (read_type(rope) == "yarn") {
    config.yarn = read_yarn(rope, text, config);
    // The length that the model's makers state for it; transformers itself never looks.
    const double stretched =
        config.yarn->factor * static_cast<double>(config.yarn->original_max_position_embeddings);
    config.max_position_embeddings =
        std::max(config.max_position_embeddings,
                 static_cast<int64_t>(std::min(stretched, static_cast<double>(kMaxPosition))));
  }
  config.mrope_section = rope.integers("mrope_section", {}, kMaxSection);
  rope.require("mrope_interleaved", false);
  rope.require("partial_rotary_factor", 1.0);
  rope.warn_of_the_rest(warnings);
  const int64_t pairs = std::accumulate(config.mrope_section.begin(), config.mrope_section.end(), int64_t{0});
  if (config.mrope_section.size() != 3 || pairs * 2 != config.head_dim) {
    refuse(rope, "mrope_section",
           fmt::format("must be three sizes that sum to half of head_dim = {}", config.head_dim));
  }
}

}  // namespace fovea
