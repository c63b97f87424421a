// What a checkpoint's files say about its tokenizer, read and checked but not yet made fast.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace fovea {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool lstrip = false, rstrip = false;  // takes in the white space before, after it
  bool normalized = false;              // looked for after normalisation, not before
};

struct TokenizerDefinition {
  std::vector<std::pair<std::string, int32_t>> vocabulary;  // spelling and id
  std::vector<std::pair<std::string, std::string>> merges;  // in order of rank
  std::vector<AddedToken> added_tokens;
  std::string split_pattern;
  bool normalize_nfc = false;
};

// Ids above this are refused: tables are as long as the largest id.
constexpr int64_t kLargestTokenId = (int64_t{1} << 22) - 1;

// tokenizer.json of `dir`, or vocab.json, merges.txt and tokenizer_config.json or added_tokens.json.
// Throws Error(not_found | corrupt | unsupported) naming file and field.
TokenizerDefinition read_tokenizer_definition(const std::filesystem::path& dir);

// The texts of vocab.json, merges.txt and tokenizer_config.json, of a model that has no folder.
struct TokenizerTexts {
  std::string vocabulary, merges, config;
};
// `where` stands before the names of these files in errors.
TokenizerDefinition parse_tokenizer_definition(const TokenizerTexts& texts, const std::string& where);

}  // namespace fovea
