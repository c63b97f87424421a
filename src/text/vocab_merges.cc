#include <algorithm>

#include "base/error.h"
#include "text/json_place.h"
#include "text/text_file.h"
#include "text/tokenizer_json.h"

namespace fovea {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// The split pattern of the Qwen2 tokenizer, which vocab.json and merges.txt leave to the program.
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

void read_vocabulary(const std::string& text, const std::string& name, TokenizerDefinition& definition) {
  const json vocabulary = parse_json(text, name);
  if (!vocabulary.is_object()) refuse({&vocabulary, name});
  definition.vocabulary.reserve(vocabulary.size());
  for (const auto& [spelling, id] : vocabulary.items()) {
    definition.vocabulary.emplace_back(spelling,
                                       token_id_at({&id, fmt::format("{}: [\"{}\"]", name, spelling)}));
  }
}

void read_merges(const std::string& text, const std::string& name, TokenizerDefinition& definition) {
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      throw Error(ErrorKind::corrupt, fmt::format("{}: line {} is not \"a b\"", name, number),
                  "use the merges.txt that was published with the model");
    }
    definition.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
}

}  // namespace

TokenizerDefinition parse_vocab_and_merges(const std::string& vocabulary, const std::string& merges,
                                           const std::string& where) {
  TokenizerDefinition definition;
  definition.normalize_nfc = true;
  definition.split_pattern = kQwen2Pattern;
  read_vocabulary(vocabulary, where + "vocab.json", definition);
  read_merges(merges, where + "merges.txt", definition);
  return definition;
}

TokenizerDefinition read_vocab_and_merges(const fs::path& dir) {
  return parse_vocab_and_merges(read_text_file(dir / "vocab.json"), read_text_file(dir / "merges.txt"),
                                (dir / "").string());
}

}  // namespace fovea
