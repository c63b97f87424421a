// What requests for chats and for completions have in common: how answers are chosen, where they end, how
// they are sent.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/request_field_table.h"
#include "api/request_fields.h"

namespace fovea {

inline constexpr double kMostTemperature = 100;
inline constexpr double kMostPenalty = 2;  // OpenAI's
inline constexpr double kMostBias = 100;   // OpenAI's
inline constexpr size_t kMostBiases = 1024;
inline constexpr int64_t kMostChoices = 128;
inline constexpr size_t kMostStops = 64;
inline constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();
inline constexpr size_t kLongestName = 1024;

// What is not stated is left to the checkpoint's generation config (api/generation.h).
struct AnswerFields {
  std::string model;                                   // empty: not stated
  std::optional<int64_t> max_tokens;                   // at least 1
  std::optional<double> temperature;                   // [0, kMostTemperature]; 0: greedy
  std::optional<double> top_p;                         // [0, 1]
  std::optional<int64_t> top_k;                        // at least 0; 0: all
  std::optional<double> min_p;                         // [0, 1]
  std::optional<double> repetition_penalty;            // [0.01, 100]
  double presence_penalty = 0, frequency_penalty = 0;  // [-kMostPenalty, kMostPenalty]
  std::map<int32_t, double> logit_bias;                // by token; [-kMostBias, kMostBias]
  std::optional<uint64_t> seed;                        // a negative one as its two's complement
  std::vector<std::string> stop;                       // empty: not stated; none is empty
  bool ignore_eos = false;
  int64_t n = 1;  // [1, kMostChoices]
  bool logprobs = false;
  int64_t top_logprobs = 0;                    // [0, 20]; above 0 only with logprobs
  bool stream = false, include_usage = false;  // include_usage only with stream
  std::string cache_salt;             // requests of another salt share no cached prefix with this one
  std::vector<std::string> warnings;  // a sentence each
};

// Reads all of them but max_tokens, logprobs and top_logprobs, whose forms differ. Throws FieldError.
void read_answer_fields(const RequestFields& body, AnswerFields& fields);

// What the table says of the fields that are not read: neutral ones pass, others are refused or warned of.
void check_other_fields(const RequestFields& body, std::span<const RequestField> table,
                        std::vector<std::string>& warnings);

}  // namespace fovea
