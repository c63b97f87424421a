// The body of a chat request, with pictures from data: URLs alone and with files: what was read is within its
// bounds, and an error can be sent back.
#include "api/chat_request.h"
#include "api/chat_response.h"
#include "api/error_object.h"
#include "target.h"

namespace {

void read(std::string_view bytes, const fovea::SourceRules& rules) {
  const fovea::ChatRequest request = fovea::parse_chat_request(bytes, rules);
  fovea::fuzz::require(!request.messages.empty(), "a request has a message");
  fovea::fuzz::require(request.n >= 1 && request.n <= fovea::kMostChoices,
                       "the number of choices is bounded");
  fovea::fuzz::require(request.max_tokens.value_or(1) >= 1, "an answer has room for a token");
  fovea::fuzz::require(!(request.temperature && *request.temperature < 0), "no temperature is negative");
  for (const std::string& stop : request.stop) {
    fovea::fuzz::require(!stop.empty(), "no stop string is empty");
  }
}

}  // namespace

FOVEA_FUZZ_TARGET(chat_request) {
  try {
    read(bytes, {});
  } catch (const fovea::Error& error) {
    fovea::fuzz::require(fovea::json_line(fovea::error_object(error)).size() < 16000, "an error is short");
  }
  read(bytes, {fovea::SourceRules::Kind::any_file, {}, "/batch"});
}
