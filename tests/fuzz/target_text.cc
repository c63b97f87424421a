// Any text, tokenized with the tokenizer that ships with the demo model, and streamed back.
#include <filesystem>

#include "target.h"
#include "text/tokenizer.h"

FOVEA_FUZZ_TARGET(text) {
  static const auto tokenizer =
      fovea::Tokenizer::open(std::filesystem::path(FOVEA_SOURCE_DIR) / "models/fovea-demo");
  const std::vector<int32_t> ids = tokenizer.encode(bytes);
  fovea::StreamDecoder stream(tokenizer);
  std::string streamed;
  for (const int32_t id : ids) streamed += stream.push(id);
  streamed += stream.finish();
  fovea::fuzz::require(streamed == tokenizer.decode(ids, true), "streaming gives what decoding gives");
}
