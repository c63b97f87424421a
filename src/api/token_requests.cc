#include "api/token_requests.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "api/chat_request.h"
#include "api/request_fields.h"
#include "base/error.h"

namespace fovea {

using nlohmann::json;

TokenizeRequest parse_tokenize_request(std::string_view text, const SourceRules& rules) {
  const json object = parse_request_object(text, "the request", kMaxRequestBytes);
  const RequestFields body(object, "");
  TokenizeRequest request;
  request.model = body.string("model", kLongestName).value_or("");
  request.with_pieces =
      body.boolean("return_token_strs").value_or(false) || body.boolean("with_pieces").value_or(false);
  body.boolean("add_special_tokens");  // the tokenizer of this model adds none
  const auto bytes = static_cast<size_t>(kMaxRequestBytes);
  const auto prompt = body.string("prompt", bytes), content = body.string("content", bytes);
  const json* messages = body.get("messages");
  if (int{prompt.has_value()} + int{content.has_value()} + int{messages != nullptr} != 1) {
    body.refuse("prompt", "or one of content and messages must be there, and one alone",
                R"(send {"prompt": "text"} or {"messages": [...]})");
  }
  if (messages != nullptr) {
    request.messages = admitted_messages(*messages, rules);
  } else {
    request.text = prompt ? *prompt : *content;
  }
  return request;
}

DetokenizeRequest parse_detokenize_request(std::string_view text) {
  constexpr const char* kForm = "send a list of token ids";
  const json object = parse_request_object(text, "the request", kMaxRequestBytes);
  const RequestFields body(object, "");
  DetokenizeRequest request;
  request.model = body.string("model", kLongestName).value_or("");
  const json* tokens = body.get("tokens");
  if (tokens == nullptr || !tokens->is_array()) body.refuse("tokens", "is no list", kForm);
  for (const json& token : *tokens) {
    if (!token.is_number_integer() || token < 0 || token > std::numeric_limits<int32_t>::max()) {
      body.refuse("tokens", "holds " + shown_value(token), kForm);
    }
    request.tokens.push_back(token.get<int32_t>());
  }
  return request;
}

}  // namespace fovea
