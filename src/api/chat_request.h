// The body of POST /v1/chat/completions, as OpenAI's, vLLM's and llama.cpp's clients send it, as data:
// without HTTP and without a model.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/source_rules.h"
#include "text/message.h"

namespace fovea {

struct ChatTool {
  std::string name;
  std::string json;  // the whole entry of "tools", on one line
};

// What a request states; what it does not state is left to the checkpoint's generation config
// (api/generation.h). request_fields() has the list of fields.
struct ChatRequest {
  std::string model;  // empty: not stated
  std::vector<Message> messages;
  std::optional<int64_t> max_tokens;         // at least 1
  std::optional<double> temperature;         // [0, kMostTemperature]; 0: greedy
  std::optional<double> top_p;               // [0, 1]
  std::optional<int64_t> top_k;              // at least 0; 0: all
  std::optional<double> repetition_penalty;  // [0.01, 100]
  std::optional<uint64_t> seed;              // a negative one as its two's complement
  std::vector<std::string> stop;             // empty: not stated; none is empty
  bool ignore_eos = false;
  int64_t n = 1;  // [1, kMostChoices]
  bool logprobs = false;
  int64_t top_logprobs = 0;                    // [0, 20]; above 0 only with logprobs
  bool stream = false, include_usage = false;  // include_usage only with stream
  std::vector<ChatTool> tools;                 // empty with tool_choice "none"
  std::string cache_salt;             // requests of another salt share no cached prefix with this one
  std::vector<std::string> warnings;  // a sentence each: fields that go unused, and what Message::notes has
};

inline constexpr double kMostTemperature = 100;
inline constexpr int64_t kMostChoices = 128;
inline constexpr size_t kMostStops = 64;
inline constexpr size_t kMostTools = 128;
inline constexpr int64_t kMaxRequestBytes = int64_t{64} << 20;

// Reads a body; sources of pictures and videos are admitted by `rules`, no file is opened. Throws Error, a
// FieldError with the field's path wherever one is to blame:
//   invalid_argument  not one JSON object in UTF-8, a key stated twice, a field of the wrong type or out of
//   bounds,
//                     max_tokens beside another max_completion_tokens, a file that is not allowed
//   unsupported       a field that asks for what fovea does not do
//   exhausted         more than kMaxRequestBytes
// api/error_object.h makes of it what is sent back. Any thread.
ChatRequest parse_chat_request(std::string_view body, const SourceRules& rules);
// Likewise of an object that is parsed already: whether a key was stated twice can no longer be seen.
ChatRequest chat_request_of(const nlohmann::json& body, const SourceRules& rules);

}  // namespace fovea
