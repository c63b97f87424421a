#include "text/tokenizer_json.h"

#include "base/error.h"
#include "text/added_token_files.h"
#include "text/json_place.h"
#include "text/text_file.h"
#include "text/tokenizer_json_sax.h"

namespace fovea {
namespace {

using nlohmann::json;

void expect_string(const JsonPlace& object, const char* name, std::string_view expected) {
  const JsonPlace place = field_of(object, name);
  if (string_at(place) != expected) refuse(place);
}

void expect_bool(const JsonPlace& object, const char* name, bool expected) {
  const JsonPlace place = field_of(object, name);
  if (bool_at(place, !expected) != expected) refuse(place);
}

// Null, or anything in `harmless`.
void expect_null_or(const JsonPlace& object, const char* name, const json& harmless) {
  const JsonPlace place = optional_field_of(object, name);
  if (!place.value->is_null() && *place.value != harmless) refuse(place);
}

void read_normalizer(const JsonPlace& place, TokenizerDefinition& definition) {
  if (place.value->is_null()) return;
  const JsonPlace type = field_of(place, "type");
  if (string_at(type) == "NFC") {
    refuse_other_fields(place, {"type"});
    definition.normalize_nfc = true;
  } else if (string_at(type) == "Sequence") {
    refuse_other_fields(place, {"type", "normalizers"});
    const JsonPlace list = field_of(place, "normalizers");
    for (size_t i = 0; i < array_at(list).size(); ++i) {
      const JsonPlace part = element_of(list, i);
      expect_string(part, "type", "NFC");
      definition.normalize_nfc = true;
    }
  } else {
    refuse(type);
  }
}

// ByteLevel as pre-tokenizer, post-processor and decoder; trim_offsets only concerns offsets, which we do not
// give.
void check_byte_level(const JsonPlace& place) {
  expect_string(place, "type", "ByteLevel");
  refuse_other_fields(place, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  bool_at(optional_field_of(place, "trim_offsets"), true);
}

// TemplateProcessing writes special tokens around a text; transformers 5 saves one without any. What it does
// to pairs of texts is of no concern: there are none here.
void check_template_processing(const JsonPlace& place) {
  const JsonPlace single = field_of(place, "single");
  refuse_other_fields(place, {"type", "single", "pair", "special_tokens"});
  for (size_t i = 0; i < array_at(single).size(); ++i) {
    const JsonPlace token = optional_field_of(element_of(single, i), "SpecialToken");
    if (token.value->is_null()) continue;
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: TemplateProcessing adds the token {} to every text, which is not supported",
                            place.where, string_at(field_of(token, "id")).substr(0, 100)),
                "use the tokenizer.json that was published with the model");
  }
  if (array_at(single).size() != 1) refuse(single);
  expect_string(field_of(element_of(single, 0), "Sequence"), "id", "A");
}

// Only what adds no token to a text.
void check_post_processor(const JsonPlace& place) {
  const JsonPlace type = field_of(place, "type");
  if (string_at(type) == "TemplateProcessing") return check_template_processing(place);
  if (string_at(type) != "Sequence") return check_byte_level(place);
  refuse_other_fields(place, {"type", "processors"});
  const JsonPlace list = field_of(place, "processors");
  for (size_t i = 0; i < array_at(list).size(); ++i) check_post_processor(element_of(list, i));
}

void read_pre_tokenizer(const JsonPlace& place, TokenizerDefinition& definition) {
  expect_string(place, "type", "Sequence");
  refuse_other_fields(place, {"type", "pretokenizers"});
  const JsonPlace list = field_of(place, "pretokenizers");
  if (array_at(list).size() != 2) refuse(list);
  const JsonPlace split = element_of(list, 0), bytes = element_of(list, 1);
  expect_string(split, "type", "Split");
  refuse_other_fields(split, {"type", "pattern", "behavior", "invert"});
  expect_string(split, "behavior", "Isolated");
  expect_bool(split, "invert", false);
  const JsonPlace pattern = field_of(split, "pattern");
  refuse_other_fields(pattern, {"Regex"});
  definition.split_pattern = string_at(field_of(pattern, "Regex"));
  check_byte_level(bytes);
  expect_bool(bytes, "add_prefix_space", false);
  expect_bool(bytes, "use_regex", false);
}

void read_added_tokens(const JsonPlace& list, TokenizerDefinition& definition) {
  if (list.value->is_null()) return;
  for (size_t i = 0; i < array_at(list).size(); ++i) {
    const JsonPlace place = element_of(list, i);
    refuse_other_fields(place, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
    AddedToken token = added_token_at(place);
    token.id = token_id_at(field_of(place, "id"));
    definition.added_tokens.push_back(std::move(token));
  }
}

void check_model(const JsonPlace& model) {
  refuse_other_fields(
      model, {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
              "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (!optional_field_of(model, "type").value->is_null()) expect_string(model, "type", "BPE");
  expect_null_or(model, "dropout", 0.0);
  expect_null_or(model, "continuing_subword_prefix", "");
  expect_null_or(model, "end_of_word_suffix", "");
  expect_null_or(model, "byte_fallback", false);
  expect_null_or(model, "ignore_merges", false);
  // unk_token and fuse_unk never act: every byte must be in the vocabulary.
  if (!field_of(model, "vocab").value->is_object()) refuse(field_of(model, "vocab"));
  array_at(field_of(model, "merges"));
}

}  // namespace

TokenizerDefinition read_tokenizer_json(const std::filesystem::path& file) {
  TokenizerDefinition definition;
  const json document = read_tokenizer_document(read_text_file(file), file.string(), definition);
  const JsonPlace root{&document, file.string() + ": "};
  // transformers overrides truncation and padding in every call.
  refuse_other_fields(root, {"version", "truncation", "padding", "added_tokens", "normalizer",
                             "pre_tokenizer", "post_processor", "decoder", "model"});
  expect_string(root, "version", "1.0");
  read_added_tokens(optional_field_of(root, "added_tokens"), definition);
  read_normalizer(optional_field_of(root, "normalizer"), definition);
  read_pre_tokenizer(field_of(root, "pre_tokenizer"), definition);
  const JsonPlace post_processor = optional_field_of(root, "post_processor");
  if (!post_processor.value->is_null()) check_post_processor(post_processor);
  check_byte_level(field_of(root, "decoder"));
  check_model(field_of(root, "model"));
  return definition;
}

}  // namespace fovea
