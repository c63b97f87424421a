#include "api/chat_request.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "api/request_field_table.h"
#include "api/request_fields.h"
#include "base/error.h"
#include "base/printable.h"
#include "runtime/logprobs.h"

namespace fovea {
namespace {

using nlohmann::json;
using Use = RequestField::Use;

constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();
constexpr size_t kLongestName = 1024;

const RequestField* known_field(std::string_view name) {
  const auto fields = request_fields();
  const auto found = std::find_if(fields.begin(), fields.end(),
                                  [&](const RequestField& field) { return name == field.name; });
  return found == fields.end() ? nullptr : &*found;
}

// What the table says of the fields that are not read: neutral ones pass, others are refused or warned of.
void check_other_fields(const RequestFields& body, std::vector<std::string>& warnings) {
  constexpr size_t kMostNamed = 12;
  std::vector<std::string> unknown;
  size_t unknown_count = 0;
  for (const auto& [name, value] : body.object().items()) {
    const RequestField* field = known_field(name);
    if (value.is_null() || (field && (field->use == Use::read || field->use == Use::neutral))) continue;
    if (!field) {
      if (++unknown_count <= kMostNamed) unknown.push_back(shown_value(name));
    } else if (field->use == Use::hint) {
      warnings.push_back(fmt::format("{} has no effect: {}", name, field->what));
    } else {
      const json nothing = json::parse(field->nothing);
      if (std::find(nothing.begin(), nothing.end(), value) != nothing.end()) continue;
      const std::string remedy = nothing.empty() ? "leave the field out" : "leave the field out, or send ";
      body.not_supported(name,
                         fmt::format("is {}, which is not supported: {}", shown_value(value), field->what),
                         nothing.empty() ? remedy : remedy + nothing[0].dump());
    }
  }
  if (unknown.empty()) return;
  if (unknown_count > kMostNamed) unknown.push_back(fmt::format("{} more", unknown_count - kMostNamed));
  warnings.push_back(
      fmt::format("fields that fovea does not know have no effect: {}", fmt::join(unknown, ", ")));
}

std::optional<int64_t> max_tokens_of(const RequestFields& body) {
  const auto older = body.integer("max_tokens", 1, kMostTokens);
  const auto limit = body.integer("max_completion_tokens", 1, kMostTokens);
  if (older && limit && *older != *limit) {
    body.refuse("max_completion_tokens", fmt::format("is {}, but max_tokens is {}", *limit, *older),
                "send one of them");
  }
  return limit ? limit : older;
}

std::optional<uint64_t> seed_of(const RequestFields& body) {
  const json* value = body.get("seed");
  if (value != nullptr && value->is_number_unsigned()) return value->get<uint64_t>();
  constexpr auto kRange = std::numeric_limits<int64_t>();
  const auto seed = body.integer("seed", kRange.min(), kRange.max());
  return seed ? std::optional(static_cast<uint64_t>(*seed)) : std::nullopt;
}

void read_sampling(const RequestFields& body, ChatRequest& request) {
  request.max_tokens = max_tokens_of(body);
  request.temperature = body.number("temperature", 0, kMostTemperature);
  request.top_p = body.number("top_p", 0, 1);
  request.top_k = body.integer("top_k", -1, kMostTokens);
  if (request.top_k == -1) request.top_k = 0;
  request.repetition_penalty = body.number("repetition_penalty", 0.01, 100);
  request.seed = seed_of(body);
  request.stop = body.string_or_list("stop", kMostStops);
  request.ignore_eos = body.boolean("ignore_eos").value_or(false);
  request.n = body.integer("n", 1, kMostChoices).value_or(1);
}

void read_output(const RequestFields& body, ChatRequest& request) {
  request.logprobs = body.boolean("logprobs").value_or(false);
  request.top_logprobs = body.integer("top_logprobs", 0, kMostTopLogprobs).value_or(0);
  if (request.top_logprobs > 0 && !request.logprobs) {
    body.refuse("top_logprobs", "wants logprobs", "send \"logprobs\": true beside it");
  }
  request.stream = body.boolean("stream").value_or(false);
  const json* options = body.get("stream_options");
  if (options == nullptr) return;
  if (!request.stream) body.refuse("stream_options", "wants stream", "send \"stream\": true beside it");
  const RequestFields fields(*options, "stream_options");
  request.include_usage = fields.boolean("include_usage").value_or(false);
  // OpenAI's padding against listeners, and usage in every chunk (vLLM).
  fields.boolean("include_obfuscation");
  if (fields.boolean("continuous_usage_stats").value_or(false)) {
    fields.not_supported("continuous_usage_stats", "is not supported", "send include_usage");
  }
  for (const auto& [name, value] : options->items()) {
    if (value.is_null() || name == "include_usage" || name == "include_obfuscation" ||
        name == "continuous_usage_stats") {
      continue;
    }
    request.warnings.push_back("stream_options: fovea does not know " + shown_value(name));
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
  request.messages = messages_of(*messages);
  for_each_source(request.messages, [&](std::string& source, const std::string& where) {
    source = admitted_source(source, rules, where);
  });
  for (const Message& message : request.messages) {
    request.warnings.insert(request.warnings.end(), message.notes.begin(), message.notes.end());
  }
}

}  // namespace

ChatRequest parse_chat_request(std::string_view body, const SourceRules& rules) {
  return chat_request_of(parse_request_object(body, "the request", kMaxRequestBytes), rules);
}

ChatRequest chat_request_of(const json& object, const SourceRules& rules) {
  const RequestFields body(object, "");
  ChatRequest request;
  request.model = body.string("model", kLongestName).value_or("");
  read_messages(body, rules, request);
  read_sampling(body, request);
  read_output(body, request);
  read_tools(body, request);
  request.cache_salt = body.string("cache_salt", kLongestName).value_or("");
  check_other_fields(body, request.warnings);
  return request;
}

}  // namespace fovea
