#include "api/completion_request.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/chat_request.h"
#include "base/error.h"
#include "runtime/logprobs.h"

namespace fovea {
namespace {

using nlohmann::json;

constexpr int64_t kDefaultTokens = 16;
constexpr const char* kForms =
    "send a string, a list of strings, a list of token ids, or a list of such lists";

bool is_id(const json& value) {
  return value.is_number_integer() && value >= 0 && value <= std::numeric_limits<int32_t>::max();
}

bool all_of(const json& list, bool (*holds)(const json&)) {
  return !list.empty() && std::all_of(list.begin(), list.end(), holds);
}

std::vector<int32_t> ids_of(const json& list) { return list.get<std::vector<int32_t>>(); }

std::vector<TextOrIds> prompts_of(const RequestFields& body) {
  const json* value = body.get("prompt");
  if (value == nullptr) body.refuse("prompt", "is missing", kForms);
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) body.refuse("prompt", "is " + shown_value(*value), kForms);
  if (all_of(*value, is_id)) return {ids_of(*value)};
  std::vector<TextOrIds> prompts;
  for (const json& one : *value) {
    if (one.is_string()) {
      prompts.emplace_back(one.get<std::string>());
    } else if (one.is_array() && all_of(one, is_id)) {
      prompts.emplace_back(ids_of(one));
    } else {
      body.refuse("prompt", "holds " + shown_value(one), kForms);
    }
    if (std::ssize(prompts) > kMostChoices) body.refuse("prompt", "holds too many prompts", "send fewer");
  }
  if (prompts.empty()) body.refuse("prompt", "is an empty list", kForms);
  return prompts;
}

}  // namespace

CompletionRequest parse_completion_request(std::string_view text) {
  const json object = parse_request_object(text, "the request", kMaxRequestBytes);
  const RequestFields body(object, "");
  CompletionRequest request;
  request.prompts = prompts_of(body);
  read_answer_fields(body, request);
  request.max_tokens = body.integer("max_tokens", 1, kMostTokens).value_or(kDefaultTokens);
  if (const auto top = body.integer("logprobs", 0, kMostTopLogprobs)) {
    request.logprobs = true;
    request.top_logprobs = *top;
  }
  if (request.n * std::ssize(request.prompts) > kMostChoices) {
    body.refuse("n",
                fmt::format("asks for {} answers to each of {} prompts, the limit is {} in all", request.n,
                            request.prompts.size(), kMostChoices),
                "send several requests");
  }
  check_other_fields(body, completion_fields(), request.warnings);
  return request;
}

}  // namespace fovea
