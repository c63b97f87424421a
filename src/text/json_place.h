// Reading fields of untrusted JSON: every failure names the file and the field.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fovea {

// A JSON value and the words that say where it stands, for messages.
struct JsonPlace {
  const nlohmann::json* value;
  std::string where;  // "tokenizer.json: model"
};

// Throws Error(corrupt) naming `file` when the text is not JSON.
nlohmann::json parse_json(std::string_view text, const std::string& file);

// Throws Error(corrupt) when `place` is not an object or lacks the field.
JsonPlace field_of(const JsonPlace& place, const char* name);
// The field, or a null value where it is absent.
JsonPlace optional_field_of(const JsonPlace& place, const char* name);
JsonPlace element_of(const JsonPlace& array, size_t index);

// Throw Error(corrupt) on another type.
const std::string& string_at(const JsonPlace& place);
bool bool_at(const JsonPlace& place, bool value_when_null);
const nlohmann::json& array_at(const JsonPlace& place);
// Throws Error(corrupt) unless 0 <= id <= kLargestTokenId.
int32_t token_id_at(const JsonPlace& place);

// Throws Error(unsupported) naming the first field of the object that is not listed.
void refuse_other_fields(const JsonPlace& object, std::initializer_list<std::string_view> known);
[[noreturn]] void refuse(const JsonPlace& place);  // Error(unsupported) with the value

}  // namespace fovea
