// What is heard of a request while it is computed, and its answer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/error.h"
#include "fovea/namespace.h"

namespace fovea {
FOVEA_INLINE namespace v0 {
  struct TokenLogprob {
    int32_t id = 0;
    std::string bytes;   // a token may be part of a character
    double logprob = 0;  // natural, of the model's own logits; -inf of a token that cannot come
  };

  struct Token {
    int32_t id = 0;
    std::string bytes;
    // With Request::top_logprobs, else 0 and empty.
    double logprob = 0;
    std::vector<TokenLogprob> top;  // the likeliest first
  };

  struct Answer {
    std::string text;
    std::vector<int32_t> token_ids;  // a final end token included
    std::string finish_reason;       // "stop", "length" or "cancelled"
    int64_t prompt_tokens = 0;
    int64_t cached_tokens = 0;  // of these: known from other requests
    double vision_seconds = 0, prefill_seconds = 0, decode_seconds = 0;
    std::vector<std::string>
        warnings;  // a sentence each, such as a picture that was made too small to be read
  };

  // Any may be empty. They are called on the thread that computes at this moment, which is in Engine::step(),
  // run() or generate(), one after the other; none is called after on_answer or on_error, of which one is
  // called, once. They may call Engine::submit() and cancel(), and no other function of an engine. A request
  // whose event throws is cancelled; the exception goes to whoever called step(), run() or that request's
  // generate().
  struct Events {
    std::function<void(int64_t cached_tokens)> on_start;
    std::function<void(std::string_view)> on_text;  // pieces of the answer, whole characters of UTF-8
    std::function<void(const Token&)> on_token;
    std::function<void(const Answer&)> on_answer;  // finished or cancelled
    std::function<void(const Error&)> on_error;    // in its place
  };

}  // namespace v0
}  // namespace fovea
