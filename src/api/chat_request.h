// The body of POST /v1/chat/completions, as OpenAI's, vLLM's and llama.cpp's clients send it, as data:
// without HTTP and without a model.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "api/answer_fields.h"
#include "api/answer_form.h"
#include "api/source_rules.h"
#include "text/message.h"

namespace fovea {

// What a request states; request_fields() has the list of fields. Its warnings name fields that go unused,
// and what Message::notes has.
struct ChatRequest : AnswerFields {
  std::vector<Message> messages;
  // Where there are any, the messages show them and the answer may call them (text/tool_call_reader.h); empty
  // with tool_choice "none".
  std::vector<ChatTool> tools;
  AnswerForm form;  // what answers are held to; constrain() (runtime/constraint.h) takes grammar_of() it
};

inline constexpr int64_t kMaxRequestBytes = int64_t{64} << 20;

// Reads a body; sources of pictures and videos are admitted by `rules`, no file is opened. Throws Error, a
// FieldError with the field's path wherever one is to blame:
//   invalid_argument  not one JSON object in UTF-8, a key stated twice, a field of the wrong type or out of
//   bounds,
//                     max_tokens beside another max_completion_tokens, a file that is not allowed
//   unsupported       a field that asks for what fovea does not do
//   exhausted         more than kMaxRequestBytes
// api/error_object.h makes of it what is sent back. Any thread.
ChatRequest parse_chat_request(std::string_view body, const SourceRules& rules);
// Likewise of an object that is parsed already: whether a key was stated twice can no longer be seen. `text`:
// what it was parsed from; without it, keys of schemas and tools are in the order of their names.
ChatRequest chat_request_of(const nlohmann::json& body, const SourceRules& rules, std::string_view text = {});
// The field "messages" of any request, its sources admitted.
std::vector<Message> admitted_messages(const nlohmann::json& messages, const SourceRules& rules);

}  // namespace fovea
