#include "binding/options.h"

#include "base/error.h"

namespace fovea::python {

using nlohmann::json;

namespace {

std::optional<PrecisionPolicy> policy_of(const json& options) {
  const auto preset = field<std::string>(options, "preset");
  const auto precision = field<std::string>(options, "precision");
  const auto stored = field<std::string>(options, "kv_cache_dtype");
  const bool stored_otherwise = stored && *stored != "auto";
  if (!preset && !precision && !stored_otherwise) return std::nullopt;
  PrecisionPolicy policy = precision ? PrecisionPolicy::parse_text(*precision) : PrecisionPolicy();
  if (preset) policy.set_preset(*preset);
  if (stored_otherwise) set_kv_cache(policy, *stored);
  const bool attention =
      options.contains("attn_implementation") || options.contains("vision_attn_implementation");
  if (policy.preset() && attention) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("attn_implementation contradicts preset {}, which fixes both attentions",
                            *policy.preset()),
                "leave it out, or change the preset by precision=\"text.attention=...\"");
  }
  return policy;
}

}  // namespace

EngineOptions engine_options(const json& options) {
  EngineOptions result;
  const auto text = [&](const char* name) { return field<std::string>(options, name); };
  if (const auto name = text("attn_implementation")) result.attention = parse_attention(*name);
  result.vision_attention = result.attention;
  if (const auto name = text("vision_attn_implementation")) result.vision_attention = parse_attention(*name);
  if (const auto name = text("dtype")) result.dtype = parse_dtype(*name);
  if (const auto name = text("guard")) result.guard.mode = parse_guard(*name);
  result.policy = policy_of(options);
  result.chat_template = text("chat_template").value_or("");
  return result;
}

MediaLimits media_limits(const json& options) {
  MediaLimits limits;
  limits.min_pixels = field<int64_t>(options, "min_pixels");
  limits.max_pixels = field<int64_t>(options, "max_pixels");
  limits.max_image_tokens = field<int64_t>(options, "max_image_tokens");
  limits.max_total_image_tokens = field<int64_t>(options, "max_total_image_tokens");
  limits.fps = field<double>(options, "fps");
  return limits;
}

GenerationOptions generation_options(const json& given, GenerationOptions options) {
  SamplingOptions& sampling = options.sampling;
  const auto whole = [&](const char* name) { return field<int64_t>(given, name); };
  const auto temperature = field<double>(given, "temperature"), top_p = field<double>(given, "top_p");
  const auto top_k = whole("top_k");
  const auto do_sample = field<bool>(given, "do_sample");
  if (temperature || top_p || top_k || do_sample == true) sampling.greedy = false;
  if (do_sample == false || temperature == 0.0) options.choose_greedy();
  if (temperature) sampling.temperature = *temperature;
  if (top_p) sampling.top_p = *top_p;
  if (top_k) sampling.top_k = *top_k;
  sampling.seed = field<uint64_t>(given, "seed").value_or(sampling.seed);
  sampling.repetition_penalty =
      field<double>(given, "repetition_penalty").value_or(sampling.repetition_penalty);
  sampling.no_repeat_ngram_size = whole("no_repeat_ngram_size").value_or(sampling.no_repeat_ngram_size);
  options.max_new_tokens = whole("max_new_tokens").value_or(options.max_new_tokens);
  options.stop = field<std::vector<std::string>>(given, "stop").value_or(options.stop);
  options.ignore_eos = field<bool>(given, "ignore_eos").value_or(false);
  options.prefill_chunk = whole("prefill_chunk").value_or(options.prefill_chunk);
  if (const auto tokens = whole("prompt_lookup_num_tokens")) options.prompt_lookup_num_tokens = *tokens;
  return options;
}

AuditOptions audit_options(const json& options) {
  AuditOptions audit;
  const char* usual = "eager-bf16,sdpa,flash-bf16,eager-qkv-fp32";
  audit.compare = parse_configurations(field<std::string>(options, "compare").value_or(usual));
  audit.reference = parse_configuration(field<std::string>(options, "reference").value_or("fp32"));
  audit.limit = field<int64_t>(options, "limit").value_or(0);
  audit.attribute = field<bool>(options, "attribute").value_or(true);
  audit.search = field<bool>(options, "search").value_or(false);
  audit.target = field<double>(options, "target").value_or(audit.target);
  EvaluationOptions& evaluation = audit.evaluation;
  evaluation.drift = field<bool>(options, "drift").value_or(true);
  evaluation.max_new_tokens = field<int64_t>(options, "max_new_tokens").value_or(evaluation.max_new_tokens);
  audit.media = media_limits(options);
  return audit;
}

}  // namespace fovea::python
