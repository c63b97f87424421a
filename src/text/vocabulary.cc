#include "text/vocabulary.h"

#include <algorithm>

#include "base/error.h"
#include "text/byte_level.h"

namespace fovea {
namespace {

constexpr const char* kRemedy = "use the tokenizer files that were published with the model";

}  // namespace

Vocabulary::Vocabulary(const TokenizerDefinition& definition) {
  size_t spelled = 0;
  for (const auto& [spelling, id] : definition.vocabulary) spelled += spelling.size();
  for (const AddedToken& token : definition.added_tokens) spelled += token.content.size();
  spellings_.reserve(spelled);  // must not move: ids_ points into it
  bytes_.reserve(spelled);
  ids_.reserve(definition.vocabulary.size() + definition.added_tokens.size());
  for (const auto& [spelling, id] : definition.vocabulary) insert(spelling, id);
  // The reference numbers added tokens itself and ignores the ids in the file; we refuse where the two
  // differ.
  const auto base_tokens = static_cast<int32_t>(definition.vocabulary.size());
  int32_t next_id = base_tokens;
  for (const AddedToken& token : definition.added_tokens) {
    const auto known = id_of(token.content);
    insert_added(token, known ? *known : next_id);
    next_id = std::max(next_id, token.id + 1);
  }
}

void Vocabulary::insert(std::string_view spelling, int32_t id) {
  if (id >= size()) tokens_.resize(static_cast<size_t>(id) + 1);
  if (tokens_[id].used) {
    throw Error(ErrorKind::corrupt,
                fmt::format("the tokenizer gives id {} to two tokens, one of them \"{}\"", id, spelling),
                kRemedy);
  }
  const std::string bytes = bytes_of_spelling(spelling);
  tokens_[id] = {static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(bytes.size()), true, false};
  bytes_ += bytes;
  const size_t start = spellings_.size();
  spellings_ += spelling;
  if (!ids_.emplace(std::string_view(spellings_).substr(start), id).second) {
    throw Error(ErrorKind::corrupt, fmt::format("the tokenizer's vocabulary states \"{}\" twice", spelling),
                kRemedy);
  }
}

void Vocabulary::insert_added(const AddedToken& token, int32_t expected_id) {
  if (token.content.empty())
    throw Error(ErrorKind::corrupt, "the tokenizer has an empty added token", kRemedy);
  if (token.id != expected_id) {
    throw Error(ErrorKind::corrupt,
                fmt::format("added token \"{}\" has id {}, but the order of the tokens gives it {}",
                            token.content, token.id, expected_id),
                kRemedy);
  }
  if (!id_of(token.content)) insert(token.content, token.id);
  tokens_[token.id].special = token.special;
}

std::string_view Vocabulary::bytes(int32_t id) const {
  if (id < 0 || id >= size()) return {};
  return std::string_view(bytes_).substr(tokens_[id].offset, tokens_[id].length);
}

std::optional<int32_t> Vocabulary::id_of(std::string_view spelling) const {
  const auto found = ids_.find(spelling);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace fovea
