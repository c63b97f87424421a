#include "text/added_token_files.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/error.h"
#include "text/text_file.h"

namespace fovea {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

int32_t id_of_key(const std::string& key, const std::string& where) {
  uint32_t id = 0;
  const auto [end, failure] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (failure != std::errc() || end != key.data() + key.size() || id > kLargestTokenId) {
    throw Error(ErrorKind::corrupt, fmt::format("{}: \"{}\" is not a token id", where, key),
                "use the tokenizer_config.json that was published with the model");
  }
  return static_cast<int32_t>(id);
}

// {"151643": {"content": "<|endoftext|>", "special": true, ...}, ...}
std::vector<AddedToken> read_added_tokens_decoder(const JsonPlace& decoder) {
  std::vector<AddedToken> tokens;
  if (!decoder.value->is_object()) refuse(decoder);
  for (const auto& [key, value] : decoder.value->items()) {
    const JsonPlace place{&value, fmt::format("{}[\"{}\"]", decoder.where, key)};
    refuse_other_fields(place, {"content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    tokens.push_back(added_token_at(place));
    tokens.back().id = id_of_key(key, decoder.where);
  }
  return tokens;
}

// What the configuration names as special: "eos_token": "..." or {"content": "..."},
// "additional_special_tokens": [...].
std::set<std::string> special_contents(const json& config) {
  std::set<std::string> contents;
  const auto add = [&](const json& value) {
    if (value.is_string()) contents.insert(value.get_ref<const std::string&>());
    if (value.is_object() && value.contains("content") && value["content"].is_string()) {
      contents.insert(value["content"].get_ref<const std::string&>());
    }
  };
  for (const char* name : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    if (config.contains(name)) add(config[name]);
  }
  if (config.contains("additional_special_tokens")) {
    for (const json& value : config["additional_special_tokens"]) add(value);
  }
  return contents;
}

// {"<|endoftext|>": 151643, ...}
std::vector<AddedToken> read_added_tokens_json(const fs::path& file, const std::set<std::string>& special) {
  const json document = parse_json(read_text_file(file), file.string());
  if (!document.is_object()) refuse({&document, file.string()});
  std::vector<AddedToken> tokens;
  for (const auto& [content, id] : document.items()) {
    AddedToken token;
    token.id = token_id_at({&id, fmt::format("{}: [\"{}\"]", file.string(), content)});
    token.content = content;
    token.special = special.contains(content);
    token.normalized = !token.special;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

AddedToken added_token_at(const JsonPlace& place) {
  AddedToken token;
  token.content = string_at(field_of(place, "content"));
  token.special = bool_at(optional_field_of(place, "special"), false);
  token.lstrip = bool_at(optional_field_of(place, "lstrip"), false);
  token.rstrip = bool_at(optional_field_of(place, "rstrip"), false);
  token.normalized = bool_at(optional_field_of(place, "normalized"), !token.special);
  const JsonPlace single_word = optional_field_of(place, "single_word");
  if (bool_at(single_word, false)) refuse(single_word);
  return token;
}

namespace {

void add_tokens(std::vector<AddedToken> tokens, const std::string& where, TokenizerDefinition& definition) {
  std::sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (AddedToken& token : tokens) {
    const auto known = std::find_if(definition.added_tokens.begin(), definition.added_tokens.end(),
                                    [&](const AddedToken& other) { return other.content == token.content; });
    if (known == definition.added_tokens.end()) {
      definition.added_tokens.push_back(std::move(token));
    } else if (known->id != token.id) {
      throw Error(ErrorKind::corrupt,
                  fmt::format("added token \"{}\" has id {} in tokenizer.json and {} in {}", token.content,
                              known->id, token.id, where),
                  "use the tokenizer files that were published together with the model");
    }
  }
}

JsonPlace decoder_in(const json& config, const std::string& name) {
  return optional_field_of({&config, name + ": "}, "added_tokens_decoder");
}

}  // namespace

void add_tokens_of_folder(const fs::path& dir, TokenizerDefinition& definition) {
  const fs::path config_file = dir / "tokenizer_config.json", tokens_file = dir / "added_tokens.json";
  json config = json::object();
  if (fs::exists(config_file)) config = parse_json(read_text_file(config_file), config_file.string());
  const JsonPlace decoder = decoder_in(config, config_file.string());
  std::vector<AddedToken> tokens;
  if (!decoder.value->is_null()) {
    tokens = read_added_tokens_decoder(decoder);
  } else if (fs::exists(tokens_file)) {
    tokens = read_added_tokens_json(tokens_file, special_contents(config));
  }
  add_tokens(std::move(tokens), dir.string(), definition);
}

void add_tokens_of_config(const std::string& config, const std::string& where,
                          TokenizerDefinition& definition) {
  const std::string name = where + "tokenizer_config.json";
  const json object = parse_json(config, name);
  const JsonPlace decoder = decoder_in(object, name);
  if (!decoder.value->is_null()) add_tokens(read_added_tokens_decoder(decoder), name, definition);
}

}  // namespace fovea
