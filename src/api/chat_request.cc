#include "api/chat_request.h"

#include <nlohmann/json.hpp>

#include "api/request_field_table.h"
#include "api/request_fields.h"
#include "base/error.h"
#include "runtime/logprobs.h"

namespace fovea {
namespace {

using nlohmann::json;

std::optional<int64_t> max_tokens_of(const RequestFields& body) {
  const auto older = body.integer("max_tokens", 1, kMostTokens);
  const auto limit = body.integer("max_completion_tokens", 1, kMostTokens);
  if (older && limit && *older != *limit) {
    body.refuse("max_completion_tokens", fmt::format("is {}, but max_tokens is {}", *limit, *older),
                "send one of them");
  }
  return limit ? limit : older;
}

// The number of the likeliest tokens to be named beside each, if log probabilities are asked for at all.
void read_logprobs(const RequestFields& body, ChatRequest& request) {
  request.logprobs = body.boolean("logprobs").value_or(false);
  request.top_logprobs = body.integer("top_logprobs", 0, kMostTopLogprobs).value_or(0);
  if (request.top_logprobs > 0 && !request.logprobs) {
    body.refuse("top_logprobs", "wants logprobs", "send \"logprobs\": true beside it");
  }
}

ChatTool tool_of(const json& value, size_t index) {
  const std::string where = fmt::format("tools[{}]", index);
  const RequestFields tool(value, where);
  const auto type = tool.string("type", kLongestName);
  if (!type) tool.refuse("type", "is missing", "send \"function\"");
  if (*type != "function") {
    tool.not_supported("type", "is " + shown_value(*type) + ", which is not supported", "send \"function\"");
  }
  const json* function = tool.get("function");
  if (function == nullptr)
    tool.refuse("function", "is missing", R"(send {"name": "...", "parameters": {...}})");
  const RequestFields fields(*function, where + ".function");
  const auto name = fields.string("name", kLongestName);
  if (!name || name->empty()) fields.refuse("name", "is missing", "send the function's name");
  return {*name, value.dump(-1, ' ', false, json::error_handler_t::replace)};
}

void refuse_tool_choice(const RequestFields& body, const json& choice) {
  constexpr const char* kRemedy = R"(send "auto" or "none")";
  if (choice == "required" || choice.is_object()) {
    body.not_supported("tool_choice",
                       fmt::format("is {}: no tool can be made to be called", shown_value(choice)), kRemedy);
  }
  body.refuse("tool_choice", fmt::format("is {}", shown_value(choice)), kRemedy);
}

void read_tools(const RequestFields& body, ChatRequest& request) {
  const json* choice = body.get("tool_choice");
  if (choice != nullptr && *choice != "none" && *choice != "auto") refuse_tool_choice(body, *choice);
  const json* tools = body.get("tools");
  if (tools == nullptr) return;
  if (!tools->is_array() || tools->size() > kMostTools) {
    body.refuse("tools", fmt::format("is not a list of at most {} tools", kMostTools), "send such a list");
  }
  for (size_t i = 0; i < tools->size(); ++i) request.tools.push_back(tool_of((*tools)[i], i));
  if (choice != nullptr && *choice == "none") request.tools.clear();
  if (request.tools.empty()) return;
  request.warnings.push_back("tools are not shown to the model: its chat template has no place for them");
}

void read_messages(const RequestFields& body, const SourceRules& rules, ChatRequest& request) {
  const json* messages = body.get("messages");
  if (messages == nullptr) {
    body.refuse("messages", "is missing", R"(send [{"role": "user", "content": "..."}])");
  }
  request.messages = admitted_messages(*messages, rules);
  for (const Message& message : request.messages) {
    request.warnings.insert(request.warnings.end(), message.notes.begin(), message.notes.end());
  }
}

}  // namespace

std::vector<Message> admitted_messages(const json& list, const SourceRules& rules) {
  std::vector<Message> messages = messages_of(list, NetworkAddresses::kept);
  for_each_source(messages, [&](std::string& source, const std::string& where) {
    source = admitted_source(source, rules, where);
  });
  return messages;
}

ChatRequest parse_chat_request(std::string_view body, const SourceRules& rules) {
  return chat_request_of(parse_request_object(body, "the request", kMaxRequestBytes), rules);
}

ChatRequest chat_request_of(const json& object, const SourceRules& rules) {
  const RequestFields body(object, "");
  ChatRequest request;
  read_messages(body, rules, request);
  read_answer_fields(body, request);
  request.max_tokens = max_tokens_of(body);
  read_logprobs(body, request);
  read_tools(body, request);
  check_other_fields(body, request_fields(), request.warnings);
  return request;
}

}  // namespace fovea
