// The fields of a config.json that say nothing about the computation of Qwen2.5-VL, or something that fovea
// does not compute: one table for the file and for the vision_config and text_config inside it.
#pragma once

#include "checkpoint/json_fields.h"

namespace fovea {

// Marks every field of the table as read. Throws Error(unsupported) naming a field whose value asks for
// something that is not computed, and what that is.
void check_known_fields(JsonFields& fields);

// The fields of generate() that older versions of transformers wrote into config.json, as one object; those
// of `root` go before those of `text`. Values that are the defaults of generate() count as not stated.
nlohmann::json generation_fields(const nlohmann::json& root, const nlohmann::json* text);

}  // namespace fovea
