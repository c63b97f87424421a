// The names of a Qwen2.5-VL checkpoint's tensors in both eras of transformers.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fovea {

// "visual.x" and "model.x" (transformers <= 4.51, and every published checkpoint) become "model.visual.x" and
// "model.language_model.x"; the newer names and "lm_head.weight" stay. nullopt for any other name.
std::optional<std::string> canonical_tensor_name(std::string_view file_name);

// The older era's name of a canonical one; both eras of transformers load it.
std::string older_tensor_name(std::string_view canonical);

// A buffer that some versions saved although the code computes it (rotary frequencies).
bool is_saved_buffer(std::string_view file_name);

}  // namespace fovea
