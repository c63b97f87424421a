#include "text/json_place.h"

#include <algorithm>

#include "base/error.h"
#include "text/tokenizer_definition.h"

namespace fovea {
namespace {

using nlohmann::json;

constexpr const char* kRemedy = "use the tokenizer files that were published with the model";

const json kNull;

// A short form of a value for messages.
std::string shown(const json& value) {
  constexpr size_t kLongest = 120;
  // Never dumped: that recurses, and hostile files nest deeply.
  if (value.is_structured()) return fmt::format("an {} of {} items", value.type_name(), value.size());
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

[[noreturn]] void wrong_type(const JsonPlace& place, const char* expected) {
  throw Error(ErrorKind::corrupt, fmt::format("{} is {}, not {}", place.where, shown(*place.value), expected),
              kRemedy);
}

const json& object_at(const JsonPlace& place) {
  if (!place.value->is_object()) wrong_type(place, "an object");
  return *place.value;
}

}  // namespace

json parse_json(std::string_view text, const std::string& file) {
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    throw Error(ErrorKind::corrupt, fmt::format("{} is not valid JSON: {}", file, error.what()),
                "copy the file again; it may be truncated");
  }
}

JsonPlace optional_field_of(const JsonPlace& place, const char* name) {
  const json& object = object_at(place);
  const auto found = object.find(name);
  return {found == object.end() ? &kNull : &*found, place.where + '.' + name};
}

JsonPlace field_of(const JsonPlace& place, const char* name) {
  if (!object_at(place).contains(name)) {
    throw Error(ErrorKind::corrupt, fmt::format("{} has no field \"{}\"", place.where, name), kRemedy);
  }
  return optional_field_of(place, name);
}

JsonPlace element_of(const JsonPlace& array, size_t index) {
  return {&array_at(array).at(index), fmt::format("{}[{}]", array.where, index)};
}

const std::string& string_at(const JsonPlace& place) {
  if (!place.value->is_string()) wrong_type(place, "a string");
  return place.value->get_ref<const std::string&>();
}

bool bool_at(const JsonPlace& place, bool value_when_null) {
  if (place.value->is_null()) return value_when_null;
  if (!place.value->is_boolean()) wrong_type(place, "true or false");
  return place.value->get<bool>();
}

const json& array_at(const JsonPlace& place) {
  if (!place.value->is_array()) wrong_type(place, "a list");
  return *place.value;
}

int32_t token_id_at(const JsonPlace& place) {
  if (place.value->is_number_unsigned()) {
    const auto id = place.value->get<uint64_t>();
    if (id <= static_cast<uint64_t>(kLargestTokenId)) return static_cast<int32_t>(id);
  }
  wrong_type(place, fmt::format("a token id from 0 to {}", kLargestTokenId).c_str());
}

void refuse_other_fields(const JsonPlace& object, std::initializer_list<std::string_view> known) {
  for (const auto& item : object_at(object).items()) {
    if (std::find(known.begin(), known.end(), item.key()) == known.end()) {
      refuse({&item.value(), object.where + '.' + item.key()});
    }
  }
}

void refuse(const JsonPlace& place) {
  throw Error(ErrorKind::unsupported,
              fmt::format("{} = {} is not supported", place.where, shown(*place.value)), kRemedy);
}

}  // namespace fovea
