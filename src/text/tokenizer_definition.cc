#include "text/tokenizer_definition.h"

#include "base/error.h"
#include "text/added_token_files.h"
#include "text/tokenizer_json.h"

namespace fovea {

TokenizerDefinition read_tokenizer_definition(const std::filesystem::path& dir) {
  namespace fs = std::filesystem;
  TokenizerDefinition definition;
  if (fs::exists(dir / "tokenizer.json")) {
    definition = read_tokenizer_json(dir / "tokenizer.json");
  } else if (fs::exists(dir / "vocab.json") && fs::exists(dir / "merges.txt")) {
    definition = read_vocab_and_merges(dir);
  } else {
    throw Error(ErrorKind::not_found,
                fmt::format("{}: neither tokenizer.json nor vocab.json with merges.txt", dir.string()),
                "give the folder of a complete Hugging Face checkpoint");
  }
  add_tokens_of_folder(dir, definition);
  return definition;
}

TokenizerDefinition parse_tokenizer_definition(const TokenizerTexts& texts, const std::string& where) {
  TokenizerDefinition definition = parse_vocab_and_merges(texts.vocabulary, texts.merges, where);
  add_tokens_of_config(texts.config, where, definition);
  return definition;
}

}  // namespace fovea
