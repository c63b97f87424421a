// llama.cpp's names of a Qwen2.5-VL's tensors.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fovea {

// "blk.3.attn_q.bias" -> "model.language_model.layers.3.self_attn.q_proj.bias"; nullopt for any other name.
std::optional<std::string> canonical_text_name(std::string_view gguf_name);
// "v.blk.3.ffn_up.weight" -> "model.visual.blocks.3.mlp.up_proj.weight", of the mmproj; nullopt for any other
// name, and for the parts of tensors: q, k and v, and the patch embedding.
std::optional<std::string> canonical_vision_name(std::string_view gguf_name);

}  // namespace fovea
