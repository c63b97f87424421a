// vocab.json, merges.txt, tokenizer_config.json and added_tokens.json, separated by lines of "%%".
#include <array>

#include "scratch.h"
#include "target.h"
#include "text/tokenizer.h"

FOVEA_FUZZ_TARGET(vocab_merges) {
  static const fovea::fuzz::Scratch scratch;
  constexpr std::array<const char*, 4> kNames{"vocab.json", "merges.txt", "tokenizer_config.json",
                                              "added_tokens.json"};
  const auto files = fovea::fuzz::pieces(bytes);
  for (size_t i = 0; i < kNames.size(); ++i) scratch.write(kNames[i], i < files.size() ? files[i] : "{}");
  const auto tokenizer = fovea::Tokenizer::open(scratch.path());
  tokenizer.decode(tokenizer.encode("Hello <s>, it's 42\n\n ab abc <|im_end|>"), true);
}
