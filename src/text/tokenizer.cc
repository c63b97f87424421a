#include "text/tokenizer.h"

#include <array>

#include "base/error.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/byte_level.h"
#include "text/nfc.h"
#include "text/split_pattern.h"
#include "text/tokenizer_definition.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace fovea {
namespace {

constexpr const char* kRemedy = "use the tokenizer files that were published with the model";

std::vector<AddedToken> tokens_found(const TokenizerDefinition& definition, bool after_normalization) {
  std::vector<AddedToken> tokens;
  for (const AddedToken& token : definition.added_tokens) {
    if (token.normalized != after_normalization) continue;
    tokens.push_back(token);
    if (after_normalization && definition.normalize_nfc) tokens.back().content = nfc(token.content);
  }
  return tokens;
}

BpeMerges resolve_merges(const TokenizerDefinition& definition, const Vocabulary& vocabulary) {
  BpeMerges merges(definition.merges.size());
  const auto id_of = [&](const std::string& spelling, size_t rank) {
    const auto id = vocabulary.id_of(spelling);
    if (!id) {
      throw Error(ErrorKind::corrupt,
                  fmt::format("the tokenizer's merge {} needs \"{}\", which is not in the vocabulary", rank,
                              spelling),
                  kRemedy);
    }
    return *id;
  };
  std::string joined;
  for (size_t rank = 0; rank < definition.merges.size(); ++rank) {
    const auto& [left, right] = definition.merges[rank];
    joined.assign(left).append(right);
    merges.add(id_of(left, rank), id_of(right, rank), static_cast<uint32_t>(rank), id_of(joined, rank));
  }
  return merges;
}

std::array<int32_t, 256> byte_tokens(const Vocabulary& vocabulary) {
  std::array<int32_t, 256> ids{};
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelling;
    append_utf8(spelling, spelling_of_byte(static_cast<uint8_t>(byte)));
    const auto id = vocabulary.id_of(spelling);
    if (!id) {
      throw Error(ErrorKind::corrupt,
                  fmt::format("the tokenizer's vocabulary lacks byte 0x{:02X} (\"{}\")", byte, spelling),
                  kRemedy);
    }
    ids[byte] = *id;
  }
  return ids;
}

}  // namespace

struct Tokenizer::State {
  explicit State(const TokenizerDefinition& definition)
      : vocabulary(definition),
        merges(resolve_merges(definition, vocabulary)),
        byte_ids(byte_tokens(vocabulary)),
        raw_tokens(tokens_found(definition, false)),
        normalized_tokens(tokens_found(definition, true)),
        pattern(definition.split_pattern),
        normalize_nfc(definition.normalize_nfc) {}

  // Text between added tokens.
  void encode_plain(std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<int32_t> symbols;
    BpeMerges::Workspace workspace;
    pattern.for_each_piece(text, [&](std::string_view piece) {
      symbols.clear();
      for (const char c : piece) symbols.push_back(byte_ids[static_cast<uint8_t>(c)]);
      merges.apply(symbols, workspace);
      ids.insert(ids.end(), symbols.begin(), symbols.end());
    });
  }

  Vocabulary vocabulary;
  BpeMerges merges;
  std::array<int32_t, 256> byte_ids;
  AddedTokenFinder raw_tokens, normalized_tokens;
  SplitPattern pattern;
  bool normalize_nfc;
};

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::open(const std::filesystem::path& dir) {
  return Tokenizer(std::make_unique<State>(read_tokenizer_definition(dir)));
}

Tokenizer Tokenizer::of_texts(const TokenizerTexts& texts, const std::string& where) {
  return Tokenizer(std::make_unique<State>(parse_tokenizer_definition(texts, where)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  // The order of the reference: raw added tokens, NFC of what is left, normalised added tokens, pattern,
  // merges.
  std::vector<int32_t> ids;
  const auto add = [&](int32_t id) { ids.push_back(id); };
  const std::string replaced = replace_malformed_utf8(text);
  state_->raw_tokens.cut(replaced, add, [&](std::string_view part) {
    const std::string normal = state_->normalize_nfc ? nfc(part) : std::string(part);
    state_->normalized_tokens.cut(normal, add,
                                  [&](std::string_view plain) { state_->encode_plain(plain, ids); });
  });
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  return replace_malformed_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int32_t id) const { return state_->vocabulary.bytes(id); }
bool Tokenizer::is_special(int32_t id) const { return state_->vocabulary.is_special(id); }
std::optional<int32_t> Tokenizer::id_of(std::string_view token) const {
  return state_->vocabulary.id_of(token);
}
int32_t Tokenizer::size() const { return state_->vocabulary.size(); }

std::string StreamDecoder::push(int32_t id) {
  if (tokenizer_->is_special(id)) return {};
  pending_ += tokenizer_->token_bytes(id);
  const size_t complete = pending_.size() - incomplete_utf8_tail(pending_);
  std::string text = replace_malformed_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = replace_malformed_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace fovea
