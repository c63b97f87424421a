// What is sent back from /v1/chat/completions, in OpenAI's form: whole, or in the chunks of a stream.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace fovea {

struct ResponseHead {
  std::string id;       // "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;
};

struct TokenProbability {
  std::string piece;   // the token's bytes, maybe a part of a character
  double logprob = 0;  // natural; sent as at least -9999, as others send -inf
};

struct ChoiceToken {
  TokenProbability chosen;
  std::vector<TokenProbability> top;  // the likeliest first; empty unless top_logprobs asked for them
};

struct ChatToolCall {
  std::string id;  // "call_..."
  std::string name;
  std::string arguments;  // JSON, as the model wrote it; cut where the answer is
};

struct ChatChoice {
  std::string content;        // malformed UTF-8 is sent as U+FFFD
  std::string finish_reason;  // "stop", "length" or "tool_calls"
  std::optional<std::vector<ChoiceToken>> logprobs = {};
  std::vector<ChatToolCall> tool_calls = {};
};

// Of one response: the same for the same place in it.
std::string tool_call_id(const ResponseHead& head, int64_t choice, int64_t call);
// An answer's calls of tools taken out of its words (text/tool_call_reader.h); then its finish reason is
// "tool_calls" where it would be "stop". `choice`: its index.
void take_tool_calls(const ResponseHead& head, int64_t choice, ChatChoice& answer);

struct ChatUsage {
  int64_t prompt_tokens = 0;      // counted once, whatever n is
  int64_t completion_tokens = 0;  // of all choices
  int64_t cached_tokens = 0;      // of the prompt, those that were not computed again
};

nlohmann::ordered_json usage_json(const ChatUsage& usage);

// The object "chat.completion"; the index of a choice is its place.
nlohmann::ordered_json chat_completion(const ResponseHead& head, const std::vector<ChatChoice>& choices,
                                       const ChatUsage& usage);

// The objects "chat.completion.chunk" of one answer: for each choice role(), then any number of deltas, then
// finish(); when all have ended and only with include_usage, usage(). Chunks of several choices may mix.
class ChatStream {
 public:
  // With `include_usage` every chunk but the last states "usage": null, as OpenAI's do.
  ChatStream(ResponseHead head, bool include_usage) : head_(std::move(head)), include_usage_(include_usage) {}

  nlohmann::ordered_json role(int64_t index) const;
  // `text`: whole characters only, as a StreamDecoder gives them; may be empty where only probabilities come.
  // `logprobs` belong to the tokens of the text; null: not asked for.
  nlohmann::ordered_json delta(int64_t index, const std::string& text,
                               const std::vector<ChoiceToken>* logprobs = nullptr) const;
  // A call of a tool begins, its arguments yet empty; then come pieces of them.
  nlohmann::ordered_json tool_call(int64_t index, int64_t call, const std::string& name) const;
  nlohmann::ordered_json tool_arguments(int64_t index, int64_t call, const std::string& piece) const;
  nlohmann::ordered_json finish(int64_t index, const std::string& finish_reason) const;
  // Its list of choices is empty. Requires: include_usage.
  nlohmann::ordered_json usage(const ChatUsage& usage) const;

 private:
  nlohmann::ordered_json chunk(nlohmann::ordered_json choices) const;
  nlohmann::ordered_json choice_chunk(int64_t index, nlohmann::ordered_json delta,
                                      nlohmann::ordered_json logprobs,
                                      nlohmann::ordered_json finish_reason) const;

  ResponseHead head_;
  bool include_usage_;
};

// JSON on one line, always valid UTF-8.
std::string json_line(const nlohmann::ordered_json& json);

}  // namespace fovea
