#include "api/chat_request.h"

#include <nlohmann/json.hpp>

#include "api/request_field_table.h"
#include "api/request_fields.h"
#include "base/error.h"
#include "runtime/logprobs.h"
#include "text/tool_messages.h"

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

void read_form(const RequestFields& body, std::string_view text, ChatRequest& request) {
  request.tools = read_tools(body, text);
  request.form = read_answer_form(body, text, request.tools);
  if (request.form.kind != AnswerForm::Kind::text && request.ignore_eos) {
    body.refuse("ignore_eos", "and an answer of a given form exclude each other", "leave one of them out");
  }
}

void read_messages(const RequestFields& body, const SourceRules& rules, ChatRequest& request) {
  const json* messages = body.get("messages");
  if (messages == nullptr) {
    body.refuse("messages", "is missing", R"(send [{"role": "user", "content": "..."}])");
  }
  request.messages = admitted_messages(*messages, rules);
  if (!request.tools.empty()) {
    std::vector<std::string> shown;
    for (const ChatTool& tool : request.tools) shown.push_back(tool.json);
    request.messages = with_tools(std::move(request.messages), shown);
  }
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
  return chat_request_of(parse_request_object(body, "the request", kMaxRequestBytes), rules, body);
}

ChatRequest chat_request_of(const json& object, const SourceRules& rules, std::string_view text) {
  const RequestFields body(object, "");
  ChatRequest request;
  read_answer_fields(body, request);
  request.max_tokens = max_tokens_of(body);
  read_logprobs(body, request);
  read_form(body, text, request);
  read_messages(body, rules, request);
  check_other_fields(body, request_fields(), request.warnings);
  return request;
}

}  // namespace fovea
