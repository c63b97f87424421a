#include "runtime/model_text.h"

#include <map>
#include <utility>

#include "text/tokenizer_definition.h"

namespace fovea {

namespace {

// Of a GGUF file: the texts are as large as the tokenizer, so they are made once and go.
ModelText of_texts(const Checkpoint& checkpoint, const std::string& instead) {
  std::map<std::string, std::string> texts = checkpoint.folder_texts();
  const TokenizerTexts tokenizer{std::move(texts.at("vocab.json")), std::move(texts.at("merges.txt")),
                                 std::move(texts.at("tokenizer_config.json"))};
  const std::string where = checkpoint.dir().string() + ": ";
  return {Tokenizer::of_texts(tokenizer, where),
          ChatTemplate::of_config(tokenizer.config, where + "tokenizer.chat_template", instead)};
}

ModelText of_folder(const std::filesystem::path& dir, const std::string& instead) {
  return {Tokenizer::open(dir), ChatTemplate::open(dir, instead)};
}

}  // namespace

ModelText model_text(const Checkpoint& checkpoint, const std::string& chat_template_instead) {
  return checkpoint.is_gguf() ? of_texts(checkpoint, chat_template_instead)
                              : of_folder(checkpoint.dir(), chat_template_instead);
}

}  // namespace fovea
