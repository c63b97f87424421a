#include "checkpoint/gguf_names.h"

#include <span>

namespace fovea {
namespace {

struct Name {
  std::string_view gguf, canonical;
};

constexpr Name kText[] = {{"token_embd", "embed_tokens"}, {"output_norm", "norm"}};
constexpr Name kLayer[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};
constexpr Name kVision[] = {{"v.post_ln", "merger.ln_q"}, {"mm.0", "merger.mlp.0"}, {"mm.2", "merger.mlp.2"}};
constexpr Name kBlock[] = {
    {"ln1", "norm1"},
    {"ln2", "norm2"},
    {"attn_qkv", "attn.qkv"},
    {"attn_out", "attn.proj"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

// "NAME.weight" or "NAME.bias", NAME replaced as the table says.
std::optional<std::string> looked_up(std::string_view name, std::span<const Name> table) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view kind = name.substr(dot);
  if (kind != ".weight" && kind != ".bias") return std::nullopt;
  for (const Name& known : table) {
    if (name.substr(0, dot) == known.gguf) return std::string(known.canonical).append(kind);
  }
  return std::nullopt;
}

// The same below "PREFIX<number>.".
std::optional<std::string> numbered(std::string_view name, std::string_view prefix,
                                    std::span<const Name> table, std::string_view canonical) {
  if (name.substr(0, prefix.size()) != prefix) return std::nullopt;
  const std::string_view rest = name.substr(prefix.size());
  const size_t dot = rest.find('.');
  const std::string_view number = rest.substr(0, dot);
  const bool plain = dot != std::string_view::npos && dot > 0 && dot < 6 &&
                     number.find_first_not_of("0123456789") == std::string_view::npos &&
                     (number == "0" || number.front() != '0');
  if (!plain) return std::nullopt;
  const std::optional<std::string> part = looked_up(rest.substr(dot + 1), table);
  if (!part) return std::nullopt;
  return std::string(canonical).append(number).append(".").append(*part);
}

std::optional<std::string> below(std::string_view prefix, std::optional<std::string> name) {
  if (!name) return name;
  return std::string(prefix).append(*name);
}

}  // namespace

std::optional<std::string> canonical_text_name(std::string_view gguf_name) {
  if (gguf_name == "output.weight") return "lm_head.weight";
  if (const auto name = numbered(gguf_name, "blk.", kLayer, "model.language_model.layers.")) return name;
  return below("model.language_model.", looked_up(gguf_name, kText));
}

std::optional<std::string> canonical_vision_name(std::string_view gguf_name) {
  if (const auto name = numbered(gguf_name, "v.blk.", kBlock, "model.visual.blocks.")) return name;
  return below("model.visual.", looked_up(gguf_name, kVision));
}

}  // namespace fovea
