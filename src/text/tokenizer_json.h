// The two forms in which a checkpoint states its tokenizer.
#pragma once

#include <filesystem>

#include "text/tokenizer_definition.h"

namespace fovea {

// Hugging Face `tokenizers` form: everything in one file.
TokenizerDefinition read_tokenizer_json(const std::filesystem::path& file);

// vocab.json and merges.txt; the pattern and NFC are those of the Qwen2 tokenizer, which these files do not
// state. They state no added tokens either.
TokenizerDefinition read_vocab_and_merges(const std::filesystem::path& dir);
// The same from the texts of the two; `where` stands before their names in errors.
TokenizerDefinition parse_vocab_and_merges(const std::string& vocabulary, const std::string& merges,
                                           const std::string& where);

}  // namespace fovea
