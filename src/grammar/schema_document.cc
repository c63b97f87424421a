#include "grammar/schema_document.h"

#include <algorithm>
#include <array>

#include "base/percent_decoded.h"
#include "base/printable.h"

namespace fovea {

namespace {

constexpr std::array kRead = {
    "type",    "enum",        "const",    "properties", "required",         "additionalProperties",
    "items",   "prefixItems", "minItems", "maxItems",   "minLength",        "maxLength",
    "pattern", "format",      "minimum",  "maximum",    "exclusiveMinimum", "exclusiveMaximum",
    "anyOf",   "oneOf",       "allOf",    "$ref",       "nullable"};
// They say nothing of which values are valid; $defs and definitions are read where a $ref names them.
constexpr std::array kNotes = {"title",       "description",   "default",         "examples",
                               "example",     "$schema",       "$comment",        "$id",
                               "deprecated",  "readOnly",      "writeOnly",       "$defs",
                               "definitions", "discriminator", "contentEncoding", "contentMediaType"};
constexpr std::array kUnsupported = {"not",
                                     "if",
                                     "then",
                                     "else",
                                     "dependentSchemas",
                                     "dependentRequired",
                                     "dependencies",
                                     "patternProperties",
                                     "propertyNames",
                                     "unevaluatedProperties",
                                     "unevaluatedItems",
                                     "contains",
                                     "minContains",
                                     "maxContains",
                                     "uniqueItems",
                                     "minProperties",
                                     "maxProperties",
                                     "additionalItems",
                                     "multipleOf",
                                     "contentSchema",
                                     "$anchor",
                                     "$dynamicRef",
                                     "$dynamicAnchor",
                                     "$recursiveRef",
                                     "$recursiveAnchor",
                                     "$vocabulary"};

template <class Names>
bool holds(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Those whose values are of one form wherever they stand.
void check_form(const SchemaJson& schema, const std::string& place) {
  const auto require = [&](const char* name, const char* form, const auto& holds_of) {
    const auto found = schema.find(name);
    if (found == schema.end() || holds_of(*found)) return;
    SchemaDocument::refuse(place + '/' + name, fmt::format("is {}, not {}", shown_json(*found), form),
                           fmt::format("write {}", form));
  };
  const auto is_count = [](const SchemaJson& value) {
    return value.is_number() && value.get<double>() >= 0 && value.get<double>() <= 1e9 &&
           value.get<double>() == static_cast<double>(static_cast<int64_t>(value.get<double>()));
  };
  const auto is_list_of_schemas = [](const SchemaJson& value) { return value.is_array() && !value.empty(); };
  const auto are_strings = [](const SchemaJson& value) {
    return value.is_array() &&
           std::all_of(value.begin(), value.end(), [](const SchemaJson& one) { return one.is_string(); });
  };
  for (const char* name : {"minItems", "maxItems", "minLength", "maxLength"})
    require(name, "a count", is_count);
  for (const char* name : {"minimum", "maximum"}) {
    require(name, "a number", [](const SchemaJson& value) { return value.is_number(); });
  }
  for (const char* name : {"exclusiveMinimum", "exclusiveMaximum"}) {
    require(name, "a number",
            [](const SchemaJson& value) { return value.is_number() || value.is_boolean(); });
  }
  for (const char* name : {"anyOf", "oneOf", "allOf"}) require(name, "a list of schemas", is_list_of_schemas);
  require("prefixItems", "a list of schemas", [](const SchemaJson& value) { return value.is_array(); });
  for (const char* name : {"pattern", "format", "$ref"}) {
    require(name, "a string", [](const SchemaJson& value) { return value.is_string(); });
  }
  require("required", "a list of strings", are_strings);
  require("enum", "a list of values", [](const SchemaJson& value) { return value.is_array(); });
  require("properties", "an object", [](const SchemaJson& value) { return value.is_object(); });
  require("nullable", "true or false", [](const SchemaJson& value) { return value.is_boolean(); });
  require("type", "a type or a list of types",
          [&](const SchemaJson& value) { return value.is_string() || are_strings(value); });
}

}  // namespace

SchemaDocument::SchemaDocument(std::string_view text, std::string where)
    : root_(parse_ordered_json(text, where)), where_(std::move(where)) {}

void SchemaDocument::refuse(const std::string& place, const std::string& words, const std::string& remedy) {
  throw FieldError(ErrorKind::invalid_argument, printable(place), words, remedy);
}

void SchemaDocument::not_supported(const std::string& place, const std::string& words,
                                   const std::string& remedy) {
  throw FieldError(ErrorKind::unsupported, printable(place), words, remedy);
}

const SchemaJson& SchemaDocument::resolve(const SchemaJson& ref, const std::string& place) const {
  const auto& text = ref.get_ref<const std::string&>();
  if (text.empty() || text[0] != '#' || (text.size() > 1 && text[1] != '/')) {
    not_supported(place + "/$ref", "is " + shown_json(ref) + ", which is not within the schema",
                  "copy what it names into $defs and write \"#/$defs/...\"");
  }
  try {
    return root_.at(SchemaJson::json_pointer(percent_decoded(text.substr(1))));
  } catch (const SchemaJson::exception&) {
    refuse(place + "/$ref", "names " + shown_json(ref) + ", which the schema does not have",
           "write \"#/$defs/<name>\" of a definition that is there");
  }
}

KeywordUse use_of_keyword(std::string_view keyword) {
  if (holds(kRead, keyword)) return KeywordUse::read;
  if (holds(kNotes, keyword) || keyword.starts_with("x-")) return KeywordUse::note;
  return holds(kUnsupported, keyword) ? KeywordUse::unsupported : KeywordUse::unknown;
}

void check_keywords(const SchemaJson& schema, const std::string& place) {
  if (schema.is_boolean()) return;
  if (!schema.is_object()) {
    SchemaDocument::refuse(place, "is " + shown_json(schema) + ", not a schema",
                           "write an object, true or false");
  }
  for (const auto& [keyword, value] : schema.items()) {
    switch (use_of_keyword(keyword)) {
      case KeywordUse::read:
      case KeywordUse::note:
        continue;
      case KeywordUse::unsupported:
        if (keyword == "uniqueItems" && value == false) continue;
        SchemaDocument::not_supported(place + '/' + keyword, "is a keyword that answers cannot be held to",
                                      "leave it out, and check the answer for it");
      case KeywordUse::unknown:
        SchemaDocument::not_supported(place + '/' + keyword, "is no keyword of JSON Schema that fovea knows",
                                      "leave it out, or let its name begin with x- where it is a note");
    }
  }
  check_form(schema, place);
}

}  // namespace fovea
