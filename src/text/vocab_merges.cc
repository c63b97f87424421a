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

void read_vocabulary(const fs::path& file, TokenizerDefinition& definition) {
  const json vocabulary = parse_json(read_text_file(file), file.string());
  if (!vocabulary.is_object()) refuse({&vocabulary, file.string()});
  definition.vocabulary.reserve(vocabulary.size());
  for (const auto& [spelling, id] : vocabulary.items()) {
    definition.vocabulary.emplace_back(
        spelling, token_id_at({&id, fmt::format("{}: [\"{}\"]", file.string(), spelling)}));
  }
}

void read_merges(const fs::path& file, TokenizerDefinition& definition) {
  const std::string text = read_text_file(file);
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
      throw Error(ErrorKind::corrupt, fmt::format("{}: line {} is not \"a b\"", file.string(), number),
                  "use the merges.txt that was published with the model");
    }
    definition.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
}

}  // namespace

TokenizerDefinition read_vocab_and_merges(const fs::path& dir) {
  TokenizerDefinition definition;
  definition.normalize_nfc = true;
  definition.split_pattern = kQwen2Pattern;
  read_vocabulary(dir / "vocab.json", definition);
  read_merges(dir / "merges.txt", definition);
  return definition;
}

}  // namespace fovea
