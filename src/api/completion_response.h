// What is sent back from /v1/completions, in OpenAI's form: whole, or in the chunks of a stream.
#pragma once

#include "api/chat_response.h"

namespace fovea {

// The object "text_completion"; the index of a choice is its place.
nlohmann::ordered_json text_completion(const ResponseHead& head, const std::vector<ChatChoice>& choices,
                                       const ChatUsage& usage);

// The objects of a stream, which have the same name: for each choice any number of deltas, then finish();
// when all have ended and only with include_usage, usage().
class CompletionStream {
 public:
  CompletionStream(ResponseHead head, bool include_usage)
      : head_(std::move(head)), include_usage_(include_usage) {}

  // As those of ChatStream. `offset`: characters of the choice before this delta.
  nlohmann::ordered_json delta(int64_t index, const std::string& text,
                               const std::vector<ChoiceToken>* logprobs, int64_t offset) const;
  nlohmann::ordered_json finish(int64_t index, const std::string& finish_reason) const;
  nlohmann::ordered_json usage(const ChatUsage& usage) const;

 private:
  nlohmann::ordered_json chunk(nlohmann::ordered_json choices) const;

  ResponseHead head_;
  bool include_usage_;
};

// How many characters a text has, as Python counts them.
int64_t characters_in(std::string_view text);

}  // namespace fovea
