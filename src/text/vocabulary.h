// The tokens by id and by spelling.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_definition.h"

namespace fovea {

class Vocabulary {
 public:
  // Throws Error(corrupt) naming tokens whose ids contradict each other.
  explicit Vocabulary(const TokenizerDefinition& definition);
  Vocabulary(const Vocabulary&) = delete;  // ids_ points into spellings_
  Vocabulary& operator=(const Vocabulary&) = delete;

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  // Empty for an id that is no token.
  std::string_view bytes(int32_t id) const;
  bool is_special(int32_t id) const { return id >= 0 && id < size() && tokens_[id].special; }
  // As the files spell it: base tokens in the byte alphabet ("Ġyes"), added tokens as their text.
  std::optional<int32_t> id_of(std::string_view spelling) const;

 private:
  struct Token {
    uint32_t offset = 0, length = 0;  // into bytes_
    bool used = false, special = false;
  };
  void insert(std::string_view spelling, int32_t id);
  void insert_added(const AddedToken& token, int32_t expected_id);

  std::vector<Token> tokens_;
  std::string bytes_, spellings_;
  std::unordered_map<std::string_view, int32_t> ids_;
};

}  // namespace fovea
