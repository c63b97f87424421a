#include "base/error.h"
#include "checkpoint/config.h"
#include "checkpoint/json_fields.h"
#include "checkpoint/strict_json.h"

namespace fovea {
namespace {

constexpr int64_t kMaxTokenId = (int64_t{1} << 31) - 1;

// Ways of generating that fovea does not have; harmless while they keep transformers' neutral value.
void refuse_other_methods(JsonFields& fields) {
  fields.require("num_beams", 1);
  fields.require("num_beam_groups", 1);
  fields.require("num_return_sequences", 1);
  fields.require("penalty_alpha", 0);
  fields.require("typical_p", 1.0);
  fields.require("min_p", 0);
  fields.require("epsilon_cutoff", 0.0);
  fields.require("eta_cutoff", 0.0);
  fields.require("no_repeat_ngram_size", 0);
  fields.require("encoder_no_repeat_ngram_size", 0);
  fields.require("encoder_repetition_penalty", 1.0);
  fields.require("diversity_penalty", 0.0);
  fields.require("min_length", 0);
  fields.require("min_new_tokens", 0);
  fields.require("renormalize_logits", false);
  fields.require("guidance_scale", 1.0);
  fields.require("remove_invalid_values", false);
  fields.require("token_healing", false);
  for (const char* field :
       {"bad_words_ids", "force_words_ids", "constraints", "forced_bos_token_id", "forced_eos_token_id",
        "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "exponential_decay_length_penalty",
        "watermarking_config", "dola_layers", "stop_strings", "prompt_lookup_num_tokens", "max_time"}) {
    fields.require(field, nullptr);
  }
}

}  // namespace

GenerationConfig parse_generation_config(std::string_view json, const std::string& file_name) {
  const nlohmann::json object = parse_json_object(json, file_name);
  JsonFields fields(object, file_name);
  GenerationConfig config;
  config.do_sample = fields.boolean("do_sample", false);
  config.temperature = fields.number("temperature", 1.0, 0, 1e6);
  config.top_k = fields.integer("top_k", 50, 0, kMaxTokenId);
  config.top_p = fields.number("top_p", 1.0, 0, 1);
  config.repetition_penalty = fields.number("repetition_penalty", 1.0, 1e-6, 1e6);
  config.max_new_tokens = fields.integer("max_new_tokens", 0, 0, kMaxTokenId);
  config.eos_token_ids = fields.integer_or_list("eos_token_id", kMaxTokenId);
  refuse_other_methods(fields);
  // max_length is overridden by max_new_tokens, which fovea always states; the rest is bookkeeping or cache
  // layout.
  fields.ignore({"max_length",
                 "bos_token_id",
                 "pad_token_id",
                 "decoder_start_token_id",
                 "transformers_version",
                 "_from_model_config",
                 "use_cache",
                 "cache_implementation",
                 "cache_config",
                 "return_legacy_cache",
                 "chat_format",
                 "attn_implementation",
                 "_attn_implementation",
                 "output_attentions",
                 "output_hidden_states",
                 "output_scores",
                 "output_logits",
                 "return_dict_in_generate",
                 "length_penalty",
                 "early_stopping",
                 "low_memory",
                 "num_assistant_tokens",
                 "num_assistant_tokens_schedule",
                 "assistant_confidence_threshold",
                 "assistant_early_exit",
                 "assistant_lookbehind",
                 "target_lookbehind",
                 "max_matching_ngram_size",
                 "is_assistant",
                 "disable_compile",
                 "compile_config",
                 "prefill_chunk_size",
                 "generation_kwargs",
                 "trust_remote_code"});
  fields.refuse_the_rest();
  return config;
}

}  // namespace fovea
