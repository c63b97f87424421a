#include "checkpoint/tensor_names.h"

#include "checkpoint/checkpoint.h"

namespace fovea {
namespace {

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kVisual = "model.visual.";
constexpr std::string_view kText = "model.language_model.";
constexpr std::string_view kOldVisual = "visual.";
constexpr std::string_view kOldText = "model.";

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string replaced(std::string_view name, std::string_view prefix, std::string_view replacement) {
  return std::string(replacement).append(name.substr(prefix.size()));
}

class Listing {
 public:
  void weight(const std::string& name, std::vector<int64_t> shape) {
    list.push_back({prefix + name + ".weight", std::move(shape)});
  }
  void linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    weight(name, {out, in});
    if (bias) list.push_back({prefix + name + ".bias", {out}});
  }
  void gated_mlp(int64_t hidden, int64_t intermediate, bool bias) {
    linear("mlp.gate_proj", intermediate, hidden, bias);
    linear("mlp.up_proj", intermediate, hidden, bias);
    linear("mlp.down_proj", hidden, intermediate, bias);
  }

  std::string prefix;
  std::vector<ExpectedTensor> list;
};

void list_vision(const VisionConfig& config, Listing& names) {
  const int64_t hidden = config.hidden_size;
  names.prefix = kVisual;
  names.weight("patch_embed.proj", {hidden, config.in_channels, config.temporal_patch_size, config.patch_size,
                                    config.patch_size});
  for (int64_t block = 0; block < config.depth; ++block) {
    names.prefix = fmt::format("{}blocks.{}.", kVisual, block);
    names.weight("norm1", {hidden});
    names.weight("norm2", {hidden});
    names.linear("attn.qkv", 3 * hidden, hidden, true);
    names.linear("attn.proj", hidden, hidden, true);
    names.gated_mlp(hidden, config.intermediate_size, true);
  }
  names.prefix = fmt::format("{}merger.", kVisual);
  const int64_t merged = hidden * config.spatial_merge_size * config.spatial_merge_size;
  names.weight("ln_q", {hidden});
  names.linear("mlp.0", merged, merged, true);
  names.linear("mlp.2", config.out_hidden_size, merged, true);
}

void list_text(const TextConfig& config, Listing& names) {
  const int64_t hidden = config.hidden_size;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  names.prefix = kText;
  names.weight("embed_tokens", {config.vocab_size, hidden});
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    names.prefix = fmt::format("{}layers.{}.", kText, layer);
    names.weight("input_layernorm", {hidden});
    names.linear("self_attn.q_proj", config.num_attention_heads * config.head_dim, hidden, true);
    names.linear("self_attn.k_proj", keys, hidden, true);
    names.linear("self_attn.v_proj", keys, hidden, true);
    names.linear("self_attn.o_proj", hidden, config.num_attention_heads * config.head_dim, false);
    names.weight("post_attention_layernorm", {hidden});
    names.gated_mlp(hidden, config.intermediate_size, false);
  }
  names.prefix = kText;
  names.weight("norm", {hidden});
}

}  // namespace

std::optional<std::string> canonical_tensor_name(std::string_view name) {
  if (name == kHead || starts_with(name, kVisual) || starts_with(name, kText)) return std::string(name);
  if (starts_with(name, kOldVisual)) return replaced(name, kOldVisual, kVisual);
  if (starts_with(name, kOldText)) return replaced(name, kOldText, kText);
  return std::nullopt;
}

std::string older_tensor_name(std::string_view canonical) {
  if (starts_with(canonical, kVisual)) return replaced(canonical, kVisual, kOldVisual);
  if (starts_with(canonical, kText)) return replaced(canonical, kText, kOldText);
  return std::string(canonical);
}

bool is_saved_buffer(std::string_view name) {
  constexpr std::string_view kEnd = ".inv_freq";
  return name.size() >= kEnd.size() && name.substr(name.size() - kEnd.size()) == kEnd;
}

std::vector<ExpectedTensor> expected_tensors(const ModelConfig& config) {
  Listing names;
  list_vision(config.vision, names);
  list_text(config.text, names);
  if (!config.text.tie_word_embeddings) {
    names.list.push_back({std::string(kHead), {config.text.vocab_size, config.text.hidden_size}});
  }
  return std::move(names.list);
}

}  // namespace fovea
