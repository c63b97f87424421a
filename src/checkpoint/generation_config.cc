#include <initializer_list>
#include <utility>

#include "base/error.h"
#include "checkpoint/config.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/known_fields.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

constexpr int64_t kMaxTokenId = (int64_t{1} << 31) - 1;

// Bookkeeping, what is returned beside the tokens, and speculation and caches, which change no token. Scores
// of beams count among beams only; max_length is overridden by max_new_tokens, which fovea always states;
// where the logits are finite, as they must be, the two named last change nothing.
constexpr const char* kNotes[] = {
    "bos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version", "_from_model_config",
    "_commit_hash", "chat_format", "trust_remote_code", "generation_kwargs", "attn_implementation",
    "_attn_implementation",
    // returned
    "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
    // caches
    "use_cache", "cache_implementation", "cache_config", "max_cache_len", "return_legacy_cache", "low_memory",
    "disable_compile", "compile_config", "prefill_chunk_size", "continuous_batching_config",
    // speculation
    "prompt_lookup_num_tokens", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "assistant_confidence_threshold", "assistant_early_exit", "assistant_ensemble_weight",
    "assistant_lookbehind", "target_lookbehind", "max_matching_ngram_size", "is_assistant",
    "speculation_type", "use_mtp",
    // without effect here
    "max_length", "length_penalty", "early_stopping", "remove_invalid_values", "renormalize_logits"};

// What changes every answer and fovea does not have; harmless while it keeps transformers' neutral value.
void refuse_other_processing(JsonFields& fields) {
  fields.require("num_return_sequences", 1);
  fields.require("encoder_no_repeat_ngram_size", 0);
  fields.require("encoder_repetition_penalty", 1.0);
  fields.require("min_length", 0);
  fields.require("min_new_tokens", 0);
  fields.require("guidance_scale", 1.0);
  fields.require("token_healing", false);
  for (const char* field :
       {"bad_words_ids", "force_words_ids", "constraints", "forced_bos_token_id", "forced_eos_token_id",
        "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "exponential_decay_length_penalty",
        "watermarking_config", "dola_layers", "max_time"}) {
    const nlohmann::json* value = fields.get(field);
    if (value != nullptr && !value->empty()) fields.require(field, nullptr);
  }
}

// Fields beside the values at which they are off. Those that are on are refused by whoever generates in a way
// that they would change.
std::vector<std::string> stated_among(JsonFields& fields,
                                      std::initializer_list<std::pair<const char*, double>> off) {
  std::vector<std::string> stated;
  for (const auto& [field, value] : off) {
    const nlohmann::json* found = fields.get(field);
    if (found == nullptr || *found == value) continue;
    stated.push_back(fmt::format("{} is {}", fields.name_of(field), fields.shown(field)));
  }
  return stated;
}

GenerationConfig read_fields(const nlohmann::json& object, const std::string& file_name) {
  JsonFields fields(object, file_name);
  GenerationConfig config;
  config.do_sample = fields.boolean("do_sample", false);
  config.temperature = fields.number("temperature", 1.0, 0, 1e6);
  config.top_k = fields.integer("top_k", 50, 0, kMaxTokenId);
  config.top_p = fields.number("top_p", 1.0, 0, 1);
  config.repetition_penalty = fields.number("repetition_penalty", 1.0, 1e-6, 1e6);
  config.no_repeat_ngram_size = fields.integer("no_repeat_ngram_size", 0, 0, kMaxTokenId);
  config.stop_strings = fields.string_or_list("stop_strings");
  config.max_new_tokens = fields.integer("max_new_tokens", 0, 0, kMaxTokenId);
  config.eos_token_ids = fields.integer_or_list("eos_token_id", kMaxTokenId);
  refuse_other_processing(fields);
  config.other_sampling = stated_among(
      fields, {{"typical_p", 1}, {"min_p", 0}, {"top_h", 0}, {"epsilon_cutoff", 0}, {"eta_cutoff", 0}});
  config.other_methods = stated_among(
      fields, {{"num_beams", 1}, {"num_beam_groups", 1}, {"diversity_penalty", 0}, {"penalty_alpha", 0}});
  for (const char* field : kNotes) fields.ignore({field});
  fields.warn_of_the_rest(config.warnings);
  return config;
}

}  // namespace

GenerationConfig parse_generation_config(std::string_view json, const std::string& file_name) {
  return read_fields(parse_json_object(json, file_name), file_name);
}

GenerationConfig generation_of_model_config(std::string_view json, const std::string& file_name) {
  const nlohmann::json object = parse_json_object(json, file_name);
  const auto text = object.find("text_config");
  return read_fields(generation_fields(object, text == object.end() ? nullptr : &*text), file_name);
}

}  // namespace fovea
