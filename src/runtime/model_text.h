// What of a model is about text: its tokenizer and its chat template, wherever they are stored.
#pragma once

#include <string>

#include "checkpoint/checkpoint.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace fovea {

struct ModelText {
  Tokenizer tokenizer;
  ChatTemplate chat_template;
};

// `chat_template_instead`: see ChatTemplate::open. Throws what it and Tokenizer::open throw.
ModelText model_text(const Checkpoint& checkpoint, const std::string& chat_template_instead);

}  // namespace fovea
