// What a folder that is written from a checkpoint takes over as it is.
#pragma once

#include "base/output_folder.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

// Everything beside the weights and config.json: tokenizer, templates, configs, licence.
void copy_others(const Checkpoint& checkpoint, const OutputFolder& to);

// The text of its config.json and the name for errors.
struct ConfigText {
  std::string text, name;
};
ConfigText config_text(const Checkpoint& checkpoint);

}  // namespace fovea
