// The bodies of /tokenize, /detokenize and /v1/chat/completions/input_tokens, in the forms of vLLM's and
// llama.cpp's servers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "api/source_rules.h"
#include "text/message.h"

namespace fovea {

// A text ("prompt", or llama.cpp's "content"), or a conversation ("messages") that the chat template frames.
struct TokenizeRequest {
  std::string model;
  std::string text;
  std::vector<Message> messages;  // empty: the text
  bool with_pieces = false;       // "return_token_strs" or "with_pieces"
};

struct DetokenizeRequest {
  std::string model;
  std::vector<int32_t> tokens;  // each at least 0
};

// Throw FieldError, as parse_chat_request() does. Any thread.
TokenizeRequest parse_tokenize_request(std::string_view body, const SourceRules& rules);
DetokenizeRequest parse_detokenize_request(std::string_view body);

}  // namespace fovea
