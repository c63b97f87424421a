// The bodies of completions and of requests about tokens: what was read is within its bounds.
#include "api/completion_request.h"
#include "api/token_requests.h"
#include "base/error.h"
#include "target.h"

namespace {

using fovea::fuzz::require;

void read_tokens(std::string_view bytes) {
  try {
    const auto request = fovea::parse_tokenize_request(bytes, {});
    require(request.messages.empty() || request.text.empty(), "a conversation or a text");
  } catch (const fovea::Error&) {
  }
  try {
    for (const int32_t id : fovea::parse_detokenize_request(bytes).tokens)
      require(id >= 0, "ids are not negative");
  } catch (const fovea::Error&) {
  }
}

}  // namespace

FOVEA_FUZZ_TARGET(completion_request) {
  read_tokens(bytes);
  const fovea::CompletionRequest request = fovea::parse_completion_request(bytes);
  require(!request.prompts.empty(), "there is a prompt");
  require(request.n * std::ssize(request.prompts) <= fovea::kMostChoices, "the number of choices is bounded");
  require(request.max_tokens.value_or(0) >= 1, "an answer has room for a token");
  require(request.logit_bias.size() <= fovea::kMostBiases, "the number of biases is bounded");
}
