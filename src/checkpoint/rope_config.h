// The rotary part of a text config.
#pragma once

#include <string>

#include "checkpoint/config.h"
#include "checkpoint/json_fields.h"

namespace fovea {

// Reads rope_scaling (transformers 4) or rope_parameters (5) of `text`, and rope_theta wherever it stands,
// into `config`, whose head_dim and max_position_embeddings are already there. `where` names the object in
// errors. Throws Error naming the field.
void read_rope(JsonFields& text, const std::string& where, TextConfig& config,
               std::vector<std::string>& warnings);

}  // namespace fovea
