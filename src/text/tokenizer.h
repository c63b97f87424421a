// The checkpoint's byte-level BPE: tokenizer.json (or vocab.json + merges.txt), with its own pre-tokenizer
// pattern, NFC normalisation and added tokens, token for token like Hugging Face tokenizers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

struct TokenizerTexts;  // text/tokenizer_definition.h

class Tokenizer {
 public:
  // Throws Error(not_found | corrupt | unsupported) naming file and field.
  static Tokenizer open(const std::filesystem::path& dir);
  // Of a model that has no folder; `where` stands before the texts' names in errors.
  static Tokenizer of_texts(const TokenizerTexts& texts, const std::string& where);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Added tokens in the text are recognised. Malformed UTF-8 is replaced by U+FFFD as Python's
  // bytes.decode("utf-8", "replace") does.
  std::vector<int32_t> encode(std::string_view text) const;
  // Bytes of the tokens, malformed UTF-8 replaced by U+FFFD; special tokens are dropped when skip_special.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;
  // The raw bytes of one token (an added token's text, a base token's bytes). Empty for an id outside the
  // vocabulary.
  std::string_view token_bytes(int32_t id) const;
  bool is_special(int32_t id) const;
  std::optional<int32_t> id_of(std::string_view token) const;
  int32_t size() const;  // one more than the largest id

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Streams text out of tokens and never emits half a character.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  // The text that is complete after this token (special tokens add nothing).
  std::string push(int32_t id);
  // What is left at the end; incomplete bytes become U+FFFD.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
};

}  // namespace fovea
