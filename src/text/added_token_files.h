// Added tokens stated beside tokenizer.json, and the form of one such token.
#pragma once

#include <filesystem>

#include "text/json_place.h"
#include "text/tokenizer_definition.h"

namespace fovea {

// Content and flags; the id stands elsewhere. Throws Error(unsupported) for single_word.
AddedToken added_token_at(const JsonPlace& place);

// Adds what `dir` states in tokenizer_config.json (added_tokens_decoder) or else in added_tokens.json and is
// not yet in the definition, as transformers does.
void add_tokens_of_folder(const std::filesystem::path& dir, TokenizerDefinition& definition);
// Adds those of a tokenizer_config.json likewise; `where` stands before its name in errors.
void add_tokens_of_config(const std::string& config, const std::string& where,
                          TokenizerDefinition& definition);

}  // namespace fovea
