// Tools as Qwen2.5 was taught them. The template of Qwen2.5-VL has no place for tools; the one of Qwen2.5
// has, and what it adds are words in messages: so a conversation with tools becomes one without, which the
// checkpoint's own template renders. (Qwen-Agent does the same for Qwen2.5-VL.)
#pragma once

#include <span>
#include <string>
#include <vector>

#include "text/message.h"

namespace fovea {

inline constexpr const char* kToolCallBegin = "<tool_call>";
inline constexpr const char* kToolCallEnd = "</tool_call>";

// `tools`: the entries of a request's "tools", each as python_json() writes it. They stand at the end of the
// system message, or of Qwen2.5-VL's default one where the conversation has none; calls of an assistant
// behind his words; results of tools, those that follow each other together, as a user's message. Throws
// FieldError (invalid_argument) naming a call that is none.
std::vector<Message> with_tools(std::vector<Message> messages, std::span<const std::string> tools);

}  // namespace fovea
