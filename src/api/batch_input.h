// The lines of a batch: requests as OpenAI's batch files state them,
//   {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
// and the plain records of suites (suite/record.h), whose id takes the place of custom_id and of which only
// the conversation is asked. Which of both a line is, is seen from its fields; a file may hold both.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "api/chat_request.h"
#include "base/field_error.h"
#include "suite/line_reader.h"

namespace fovea {

struct BatchRules {
  SourceRules sources = {.kind = SourceRules::Kind::any_file};  // relative paths begin at the file's folder
  uint64_t identity = 0;  // of whoever answers (Engine::identity()): with another one, ids differ
  int64_t max_line_bytes = kMaxRequestBytes;
};

struct BatchLine {
  int64_t number = 0;     // in the file, counted from 1
  std::string custom_id;  // empty only where the line could not be read so far
  // "batch_req_" and a hash of the line and BatchRules::identity: whether an answer belongs to this line as
  // it is now.
  std::string id;
  // One of both: a request, or why there is none. The fields of errors are those of the body, or of the line.
  std::optional<ChatRequest> request;
  std::optional<FieldError> refusal;
};

inline constexpr size_t kLongestCustomId = 512;

// Reads a file line by line; never more than one is held. For one thread.
class BatchInput {
 public:
  // Throws Error(not_found | invalid_argument) when the file cannot be read, or is no regular file: it is
  // read more than once.
  BatchInput(const std::filesystem::path& path, BatchRules rules);

  // The next line that is not blank; nothing at the end. A bad line is a refusal and stops nothing: not JSON,
  // too long, another method or url, no custom_id, a custom_id that stood before, a request that
  // parse_chat_request refuses, a stream.
  std::optional<BatchLine> next();

 private:
  void read(const std::string& text, BatchLine& line);

  LineReader lines_;
  BatchRules rules_;
  std::map<std::string, int64_t> seen_;  // custom_id to its line
};

// What a file asks for, before anything is computed.
struct BatchSurvey {
  int64_t lines = 0;  // that are not blank
  int64_t refusals = 0;
  std::map<std::string, std::string> ids;  // of the requests: custom_id to id
};
BatchSurvey survey_batch(const std::filesystem::path& path, const BatchRules& rules);

}  // namespace fovea
