#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/printable.h"
#include "checkpoint/gguf_texts.h"

namespace fovea {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int64_t kMaxTokens = int64_t{1} << 22;  // tables are as long as the vocabulary
constexpr size_t kMaxBytes = size_t{16} << 20;    // of each of the files; the published vocab.json has 2.8 MB
constexpr size_t kMaxAdded = 1 << 16;
constexpr const char* kRemedy = "use a GGUF of Qwen2.5-VL as llama.cpp's converter writes it";

// llama.cpp's kinds of tokens.
enum Kind : int64_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

[[noreturn]] void refuse(ErrorKind kind, const GgufFile& file, const std::string& what) {
  throw Error(kind, fmt::format("{}: tokenizer.ggml.{}", file.path().string(), what), kRemedy);
}

void expect(const GgufFile& file, const char* key, std::string_view wanted) {
  const std::string_view stated = file.string(std::string("tokenizer.ggml.") + key).value_or("missing");
  if (stated == wanted) return;
  refuse(ErrorKind::unsupported, file,
         fmt::format("{} is {}, Qwen2.5-VL's is {}", key, printable(stated.substr(0, 100)), wanted));
}

void check_kind(const GgufFile& file) {
  expect(file, "model", "gpt2");
  expect(file, "pre", "qwen2");
  for (const char* key : {"add_bos_token", "add_eos_token"}) {
    if (file.boolean(std::string("tokenizer.ggml.") + key).value_or(false))
      refuse(ErrorKind::unsupported, file, fmt::format("{} is true, which Qwen2.5-VL's is not", key));
  }
}

// A text as JSON writes it; what is no UTF-8 is refused.
std::string quoted(const GgufFile& file, std::string_view text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    refuse(ErrorKind::corrupt, file, fmt::format("tokens: {} is no UTF-8", printable(text.substr(0, 100))));
  }
}

void check_room(const GgufFile& file, const char* list, size_t bytes) {
  if (bytes <= kMaxBytes) return;
  refuse(ErrorKind::exhausted, file, fmt::format("{} has more than {} MiB", list, kMaxBytes >> 20));
}

ordered_json added_token(std::string_view content, bool special) {
  return {{"content", content}, {"lstrip", false},      {"normalized", false},
          {"rstrip", false},    {"single_word", false}, {"special", special}};
}

struct Tokens {
  std::string vocabulary;  // vocab.json
  ordered_json added = ordered_json::object();
};

Tokens tokens_of(const GgufFile& file) {
  const std::vector<int64_t> kinds = file.integers("tokenizer.ggml.token_type");
  Tokens tokens;
  size_t added_bytes = 0;
  int64_t id = 0;
  const auto take = [&](std::string_view token) {
    if (id >= std::ssize(kinds)) refuse(ErrorKind::corrupt, file, "token_type is shorter than tokens");
    switch (kinds[static_cast<size_t>(id)]) {
      case kNormal:
        tokens.vocabulary +=
            fmt::format("{}{}:{}", tokens.vocabulary.empty() ? "{" : ",\n", quoted(file, token), id);
        break;
      case kControl:
      case kUserDefined:
        added_bytes += quoted(file, token).size();
        check_room(file, "tokens", added_bytes);
        if (tokens.added.size() >= kMaxAdded)
          refuse(ErrorKind::exhausted, file,
                 fmt::format("token_type has more than {} added tokens", kMaxAdded));
        tokens.added[std::to_string(id)] = added_token(token, kinds[static_cast<size_t>(id)] == kControl);
        break;
      case kUnused:  // fills the embedding's last rows
        break;
      default:
        refuse(ErrorKind::unsupported, file,
               fmt::format("token_type of token {} is {}", id, kinds[static_cast<size_t>(id)]));
    }
    if (++id > kMaxTokens) refuse(ErrorKind::exhausted, file, "tokens are more than 2^22");
    check_room(file, "tokens", tokens.vocabulary.size());
  };
  if (file.each_string("tokenizer.ggml.tokens", take) == 0)
    refuse(ErrorKind::corrupt, file, "tokens is missing");
  tokens.vocabulary += tokens.vocabulary.empty() ? "{}" : "}";
  return tokens;
}

std::string merges_of(const GgufFile& file) {
  std::string text = "#version: 0.2\n";
  file.each_string("tokenizer.ggml.merges", [&](std::string_view merge) {
    if (merge.find('\n') != std::string_view::npos)
      refuse(ErrorKind::corrupt, file, "merges holds a line break");
    text.append(merge).append("\n");
    check_room(file, "merges", text.size());
  });
  return text;
}

}  // namespace

std::map<std::string, std::string> gguf_tokenizer_texts(const GgufFile& text) {
  check_kind(text);
  const Tokens tokens = tokens_of(text);
  ordered_json config{{"tokenizer_class", "Qwen2Tokenizer"}, {"added_tokens_decoder", tokens.added}};
  if (const auto chat = text.string("tokenizer.chat_template")) {
    check_room(text, "chat_template", chat->size());
    quoted(text, *chat);
    config["chat_template"] = *chat;
  }
  return {{"vocab.json", tokens.vocabulary},
          {"merges.txt", merges_of(text)},
          {"tokenizer_config.json", config.dump(2)}};
}

}  // namespace fovea
