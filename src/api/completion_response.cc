#include "api/completion_response.h"

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace fovea {
namespace {

using nlohmann::ordered_json;

constexpr double kLeastLogprob = -9999;  // JSON has no infinity

double sendable(double logprob) { return logprob > kLeastLogprob ? logprob : kLeastLogprob; }

ordered_json logprobs_json(const std::vector<ChoiceToken>& tokens, int64_t offset) {
  ordered_json names = ordered_json::array(), logprobs = ordered_json::array(), top = ordered_json::array(),
               offsets = ordered_json::array();
  for (const ChoiceToken& token : tokens) {
    const std::string name = replace_malformed_utf8(token.chosen.piece);
    names.push_back(name);
    logprobs.push_back(sendable(token.chosen.logprob));
    ordered_json likeliest = ordered_json::object();
    for (const TokenProbability& other : token.top) {
      likeliest[replace_malformed_utf8(other.piece)] = sendable(other.logprob);
    }
    top.push_back(std::move(likeliest));
    offsets.push_back(offset);
    offset += characters_in(name);
  }
  ordered_json json = {{"tokens", std::move(names)}, {"token_logprobs", std::move(logprobs)}};
  json["top_logprobs"] = std::move(top);
  json["text_offset"] = std::move(offsets);
  return json;
}

ordered_json choice_json(int64_t index, const std::string& text, ordered_json logprobs,
                         ordered_json finish_reason) {
  ordered_json choice = {{"index", index}, {"text", replace_malformed_utf8(text)}};
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = std::move(finish_reason);
  return choice;
}

ordered_json head_json(const ResponseHead& head) {
  return {{"id", head.id}, {"object", "text_completion"}, {"created", head.created}, {"model", head.model}};
}

}  // namespace

int64_t characters_in(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; });
}

ordered_json text_completion(const ResponseHead& head, const std::vector<ChatChoice>& choices,
                             const ChatUsage& usage) {
  ordered_json list = ordered_json::array();
  for (const ChatChoice& choice : choices) {
    list.push_back(choice_json(std::ssize(list), choice.content,
                               choice.logprobs ? logprobs_json(*choice.logprobs, 0) : ordered_json(),
                               choice.finish_reason));
  }
  ordered_json json = head_json(head);
  json["choices"] = std::move(list);
  json["usage"] = usage_json(usage);
  return json;
}

ordered_json CompletionStream::chunk(ordered_json choices) const {
  ordered_json json = head_json(head_);
  json["choices"] = std::move(choices);
  if (include_usage_) json["usage"] = nullptr;
  return json;
}

ordered_json CompletionStream::delta(int64_t index, const std::string& text,
                                     const std::vector<ChoiceToken>* logprobs, int64_t offset) const {
  ordered_json choices = ordered_json::array();
  choices.push_back(choice_json(
      index, text, logprobs != nullptr ? logprobs_json(*logprobs, offset) : ordered_json(), nullptr));
  return chunk(std::move(choices));
}

ordered_json CompletionStream::finish(int64_t index, const std::string& finish_reason) const {
  ordered_json choices = ordered_json::array();
  choices.push_back(choice_json(index, "", nullptr, finish_reason));
  return chunk(std::move(choices));
}

ordered_json CompletionStream::usage(const ChatUsage& usage) const {
  FOVEA_CHECK(include_usage_);
  ordered_json json = chunk(ordered_json::array());
  json["usage"] = usage_json(usage);
  return json;
}

}  // namespace fovea
