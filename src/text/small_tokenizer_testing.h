// A complete tokenizer of 256 bytes, three merges and three added tokens, as a document that tests can
// damage.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/temporary_folder_testing.h"
#include "text/byte_level.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace fovea {

// Ids: 0 to 255 the bytes, 256 "ab", 257 "abc", 258 "bc", 259 "<s>" (special), 260 "<e>" (special), 261
// "<t>".
inline nlohmann::json small_tokenizer() {
  nlohmann::json vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelling;
    append_utf8(spelling, spelling_of_byte(static_cast<uint8_t>(byte)));
    vocabulary[spelling] = byte;
  }
  vocabulary["ab"] = 256;
  vocabulary["abc"] = 257;
  vocabulary["bc"] = 258;
  nlohmann::json document = nlohmann::json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 259, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
      {"id": 260, "content": "<e>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
      {"id": 261, "content": "<t>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\p{L}+| ?[^\\s\\p{L}]+|\\s+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
    "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
    "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
      "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
      "merges": ["a b", ["ab", "c"], "b c"]}})");
  document["model"]["vocab"] = vocabulary;
  return document;
}

inline Tokenizer open_tokenizer(const std::string& text) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", text);
  return Tokenizer::open(folder.path());
}
inline Tokenizer open_tokenizer(const nlohmann::json& document) { return open_tokenizer(document.dump()); }

}  // namespace fovea
