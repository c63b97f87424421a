// tokenizer.json, and after a line of "%%" tokenizer_config.json. A tokenizer that opens must tokenize.
#include "scratch.h"
#include "target.h"
#include "text/tokenizer.h"

FOVEA_FUZZ_TARGET(tokenizer_json) {
  static const fovea::fuzz::Scratch scratch;
  const auto files = fovea::fuzz::pieces(bytes);
  scratch.write("tokenizer.json", files[0]);
  scratch.write("tokenizer_config.json", files.size() > 1 ? files[1] : "{}");
  const auto tokenizer = fovea::Tokenizer::open(scratch.path());
  const std::vector<int32_t> ids = tokenizer.encode("Hello <s>, it's 42 caf\u00e9s\n\n ab abc <|im_end|>");
  for (const int32_t id : ids) {
    fovea::fuzz::require(id >= 0 && id < tokenizer.size(), "a token is one of the vocabulary");
  }
  tokenizer.decode(ids, false);
}
