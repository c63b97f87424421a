#include "checkpoint/known_fields.h"

#include "base/error.h"

namespace fovea {
namespace {

// transformers' class of Qwen2.5-VL, which `architectures` names, reads the fields that config.cc reads and
// no others. So a field that stands nowhere here changes nothing there; who loads the file is told that it
// goes unused (JsonFields::warn_of_the_rest). Refused is what names a computation: those that transformers
// performs for any class, and those of other models, without which such weights would give other answers.
struct Neutral {
  const char* field;
  const char* value;  // as JSON: the only one besides null that asks for nothing
  const char* what;
};

constexpr Neutral kNeutral[] = {
    // What transformers does for any class.
    {"is_decoder", "false", "cross attention"},
    {"is_encoder_decoder", "false", "an encoder and a decoder"},
    {"add_cross_attention", "false", "cross attention"},
    {"tie_encoder_decoder", "false", "an encoder and a decoder"},
    {"pruned_heads", "{}", "attention heads left out"},
    {"per_layer_config", "{}", "layers that differ from each other"},
    // Other models.
    {"num_experts", "0", "a mixture of experts"},
    {"num_local_experts", "0", "a mixture of experts"},
    {"n_routed_experts", "0", "a mixture of experts"},
    {"deepstack_visual_indexes", "[]", "pictures that enter several layers, as in Qwen3-VL"},
    {"qk_norm", "false", "norms of queries and keys"},
    {"use_qk_norm", "false", "norms of queries and keys"},
    {"qk_layernorm", "false", "norms of queries and keys"},
    {"attn_logit_softcapping", "0", "bounded attention scores"},
    {"final_logit_softcapping", "0", "bounded logits"},
    {"logit_scale", "1", "scaled logits"},
    {"logits_scaling", "1", "scaled logits"},
    {"embedding_multiplier", "1", "scaled embeddings"},
    {"residual_multiplier", "1", "scaled residuals"},
    {"attention_multiplier", "null", "another scale of attention scores"},
    {"query_pre_attn_scalar", "null", "another scale of attention scores"},
    {"attention_chunk_size", "null", "attention in chunks"},
    {"sliding_window_pattern", "null", "sliding windows"},
    {"rope_local_base_freq", "null", "rotary angles of local layers"},
};

// Bookkeeping of files and trainers, training, tasks that are not generation, what is returned beside the
// result, and how it is computed without a change of what.
constexpr const char* kNotes[] = {
    // of the file
    "_name_or_path",
    "name_or_path",
    "_commit_hash",
    "transformers_version",
    "architectures",
    "auto_map",
    "custom_pipelines",
    "tokenizer_class",
    "processor_class",
    "model_max_length",
    "tokenizer_model_max_length",
    "_from_model_config",
    "unsloth_fixed",
    "unsloth_version",
    // training
    "initializer_range",
    "initializer_factor",
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "classifier_dropout",
    "gradient_checkpointing",
    "use_bfloat16",
    "tf_legacy_loss",
    "output_router_logits",
    "router_aux_loss_coef",
    "pretraining_tp",
    // other tasks
    "problem_type",
    "id2label",
    "label2id",
    "num_labels",
    "finetuning_task",
    "task_specific_params",
    "prefix",
    "sep_token_id",
    "decoder_start_token_id",
    "pad_token_id",
    "vision_token_id",
    "cross_attention_hidden_size",
    // what is returned
    "return_dict",
    "use_return_dict",
    "output_attentions",
    "output_hidden_states",
    "torchscript",
    "keys_to_ignore_at_inference",
    "tie_last_hidden_states",
    // how, not what
    "use_cache",
    "chunk_size_feed_forward",
    "_attn_implementation",
    "_attn_implementation_internal",
    "_attn_implementation_autoset",
    "attn_implementation",
    "_experts_implementation",
    "experts_implementation",
    "_output_attentions",
    "base_model_tp_plan",
    "base_model_pp_plan",
    "distributed_config",
    "tp_plan",
    "is_hybrid_cache",
    "cache_implementation",
};

// PretrainedConfig of transformers 4 holds them; generate() reads them where no generation_config.json
// stands.
constexpr struct {
  const char* field;
  const char* value;
} kGeneration[] = {
    {"max_length", "20"},
    {"min_length", "0"},
    {"do_sample", "false"},
    {"early_stopping", "false"},
    {"num_beams", "1"},
    {"num_beam_groups", "1"},
    {"diversity_penalty", "0"},
    {"temperature", "1"},
    {"top_k", "50"},
    {"top_p", "1"},
    {"typical_p", "1"},
    {"repetition_penalty", "1"},
    {"length_penalty", "1"},
    {"no_repeat_ngram_size", "0"},
    {"encoder_no_repeat_ngram_size", "0"},
    {"bad_words_ids", "null"},
    {"num_return_sequences", "1"},
    {"output_scores", "false"},
    {"return_dict_in_generate", "false"},
    {"forced_bos_token_id", "null"},
    {"forced_eos_token_id", "null"},
    {"remove_invalid_values", "false"},
    {"exponential_decay_length_penalty", "null"},
    {"suppress_tokens", "null"},
    {"begin_suppress_tokens", "null"},
};

}  // namespace

void check_known_fields(JsonFields& fields) {
  for (const char* field : kNotes) fields.ignore({field});
  for (const auto& generation : kGeneration) fields.ignore({generation.field});
  for (const Neutral& neutral : kNeutral) {
    const nlohmann::json* value = fields.get(neutral.field);
    if (value == nullptr || *value == nlohmann::json::parse(neutral.value)) continue;
    throw Error(ErrorKind::unsupported,
                fmt::format("{} is {}: {}, which fovea does not compute", fields.name_of(neutral.field),
                            fields.shown(neutral.field), neutral.what),
                "use a checkpoint of Qwen2.5-VL without it; if it is a leftover, remove it from the file");
  }
}

nlohmann::json generation_fields(const nlohmann::json& root, const nlohmann::json* text) {
  nlohmann::json stated = nlohmann::json::object();
  for (const nlohmann::json* object : {&root, text}) {
    if (object == nullptr || !object->is_object()) continue;
    for (const auto& generation : kGeneration) {
      const auto found = object->find(generation.field);
      if (found == object->end() || found->is_null() || stated.contains(generation.field)) continue;
      if (*found != nlohmann::json::parse(generation.value)) stated[generation.field] = *found;
    }
  }
  return stated;
}

}  // namespace fovea
