// The body of POST /v1/completions: prompts as they are, without the chat template.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/answer_fields.h"

namespace fovea {

using TextOrIds = std::variant<std::string, std::vector<int32_t>>;

// completion_fields() has the list of fields. Each prompt gets n answers, so that there are at most
// kMostChoices of all of them.
struct CompletionRequest : AnswerFields {
  std::vector<TextOrIds> prompts;  // at least one
};

// Throws as parse_chat_request() does. Without max_tokens, 16 as in OpenAI's API. Any thread.
CompletionRequest parse_completion_request(std::string_view body);

}  // namespace fovea
