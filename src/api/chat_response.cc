#include "api/chat_response.h"

#include <algorithm>

#include "base/error.h"
#include "base/fnv1a.h"
#include "text/tool_call_reader.h"
#include "text/utf8.h"

namespace fovea {
namespace {

using nlohmann::ordered_json;

constexpr double kLeastLogprob = -9999;  // JSON has no infinity

ordered_json probability_json(const TokenProbability& token) {
  ordered_json bytes = ordered_json::array();
  for (const char c : token.piece) bytes.push_back(static_cast<uint8_t>(c));
  // A NaN would be sent as null, which no client expects.
  const double logprob = token.logprob > kLeastLogprob ? token.logprob : kLeastLogprob;
  return {{"token", replace_malformed_utf8(token.piece)}, {"logprob", logprob}, {"bytes", bytes}};
}

ordered_json logprobs_json(const std::vector<ChoiceToken>& tokens) {
  ordered_json content = ordered_json::array();
  for (const ChoiceToken& token : tokens) {
    ordered_json entry = probability_json(token.chosen);
    ordered_json top = ordered_json::array();
    for (const TokenProbability& other : token.top) top.push_back(probability_json(other));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

ordered_json head_json(const ResponseHead& head, const char* object) {
  return {{"id", head.id}, {"object", object}, {"created", head.created}, {"model", head.model}};
}

ordered_json tool_calls_json(const std::vector<ChatToolCall>& calls) {
  ordered_json list = ordered_json::array();
  for (const ChatToolCall& call : calls) {
    const ordered_json function = {{"name", call.name},
                                   {"arguments", replace_malformed_utf8(call.arguments)}};
    list.push_back({{"id", call.id}, {"type", "function"}, {"function", function}});
  }
  return list;
}

}  // namespace

ordered_json usage_json(const ChatUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

std::string tool_call_id(const ResponseHead& head, int64_t choice, int64_t call) {
  const std::string place = fmt::format("{} {} {}", head.id, choice, call);
  return fmt::format("call_{:016x}{:08x}", fnv1a(place), static_cast<uint32_t>(fnv1a(place + ' ')));
}

void take_tool_calls(const ResponseHead& head, int64_t choice, ChatChoice& answer) {
  std::string words;
  ToolCallReader reader({[&](std::string_view piece) { words += piece; },
                         [&](int64_t index, const std::string& name) {
                           answer.tool_calls.push_back({tool_call_id(head, choice, index), name, ""});
                         },
                         [&](int64_t index, std::string_view piece) {
                           answer.tool_calls[static_cast<size_t>(index)].arguments += piece;
                         }});
  reader.push(answer.content);
  reader.finish();
  answer.content = std::move(words);
  if (reader.calls() > 0 && answer.finish_reason == "stop") answer.finish_reason = "tool_calls";
}

ordered_json chat_completion(const ResponseHead& head, const std::vector<ChatChoice>& choices,
                             const ChatUsage& usage) {
  ordered_json list = ordered_json::array();
  for (const ChatChoice& choice : choices) {
    ordered_json message = {
        {"role", "assistant"}, {"content", replace_malformed_utf8(choice.content)}, {"refusal", nullptr}};
    if (!choice.tool_calls.empty()) {
      if (choice.content.empty()) message["content"] = nullptr;
      message["tool_calls"] = tool_calls_json(choice.tool_calls);
    }
    list.push_back({{"index", list.size()},
                    {"message", message},
                    {"logprobs", choice.logprobs ? logprobs_json(*choice.logprobs) : ordered_json()},
                    {"finish_reason", choice.finish_reason}});
  }
  ordered_json json = head_json(head, "chat.completion");
  json["choices"] = std::move(list);
  json["usage"] = usage_json(usage);
  return json;
}

ordered_json ChatStream::chunk(ordered_json choices) const {
  ordered_json json = head_json(head_, "chat.completion.chunk");
  json["choices"] = std::move(choices);
  if (include_usage_) json["usage"] = nullptr;
  return json;
}

ordered_json ChatStream::choice_chunk(int64_t index, ordered_json delta, ordered_json logprobs,
                                      ordered_json finish_reason) const {
  ordered_json choice = {{"index", index}};
  choice["delta"] = std::move(delta);
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = std::move(finish_reason);
  ordered_json choices = ordered_json::array();
  choices.push_back(std::move(choice));
  return chunk(std::move(choices));
}

ordered_json ChatStream::role(int64_t index) const {
  return choice_chunk(index, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
}

ordered_json ChatStream::delta(int64_t index, const std::string& text,
                               const std::vector<ChoiceToken>* logprobs) const {
  return choice_chunk(index, {{"content", replace_malformed_utf8(text)}},
                      logprobs != nullptr ? logprobs_json(*logprobs) : ordered_json(), nullptr);
}

ordered_json ChatStream::tool_call(int64_t index, int64_t call, const std::string& name) const {
  ordered_json begun = {{"index", call}, {"id", tool_call_id(head_, index, call)}, {"type", "function"}};
  begun["function"] = {{"name", name}, {"arguments", ""}};
  return choice_chunk(index, {{"tool_calls", ordered_json::array({std::move(begun)})}}, nullptr, nullptr);
}

ordered_json ChatStream::tool_arguments(int64_t index, int64_t call, const std::string& piece) const {
  ordered_json more = {{"index", call}};
  more["function"] = {{"arguments", replace_malformed_utf8(piece)}};
  return choice_chunk(index, {{"tool_calls", ordered_json::array({std::move(more)})}}, nullptr, nullptr);
}

ordered_json ChatStream::finish(int64_t index, const std::string& finish_reason) const {
  return choice_chunk(index, ordered_json::object(), nullptr, finish_reason);
}

ordered_json ChatStream::usage(const ChatUsage& usage) const {
  FOVEA_CHECK(include_usage_);
  ordered_json json = chunk(ordered_json::array());
  json["usage"] = usage_json(usage);
  return json;
}

std::string json_line(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace fovea
