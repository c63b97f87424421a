#include "api/request_fields.h"

#include <cmath>
#include <limits>

#include "base/field_error.h"
#include "base/printable.h"
#include "checkpoint/strict_json.h"

namespace fovea {

using nlohmann::json;

namespace {

// What nlohmann says of a syntax error ends with the text that it had read, which may be a whole picture.
std::string short_words(const std::string& message) {
  constexpr size_t kLongest = 300;
  const std::string words = message.substr(0, message.find("; last read"));
  return printable(words.size() <= kLongest ? words : words.substr(0, kLongest) + "...");
}

}  // namespace

json parse_request_object(std::string_view text, const std::string& name, int64_t max_bytes) {
  try {
    return parse_json_object(text, name, max_bytes);
  } catch (const Error& error) {
    const bool too_long = error.kind() == ErrorKind::exhausted;
    throw FieldError(too_long ? ErrorKind::exhausted : ErrorKind::invalid_argument, "",
                     short_words(error.message()),
                     too_long ? "send smaller or fewer pictures" : "send one JSON object in UTF-8");
  }
}

std::string shown_value(const json& value) {
  constexpr size_t kLongest = 60;
  // Of a long list or object not even the text is made.
  if (value.is_structured() && value.size() > kLongest) {
    return fmt::format("a JSON {} of {} entries", value.type_name(), value.size());
  }
  if (value.is_string() && value.get_ref<const std::string&>().size() > kLongest) {
    return shown_value(value.get_ref<const std::string&>().substr(0, kLongest - 3) + "...");
  }
  const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= 2 * kLongest ? text : text.substr(0, 2 * kLongest - 3) + "...";
}

RequestFields::RequestFields(const json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    throw FieldError(ErrorKind::invalid_argument, where_, "is " + shown_value(object) + ", not an object",
                     "send a JSON object");
  }
}

std::string RequestFields::place_of(std::string_view name) const {
  return where_.empty() ? std::string(name) : where_ + '.' + std::string(name);
}

const json* RequestFields::get(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<int64_t> RequestFields::integer(const char* name, int64_t low, int64_t high) const {
  const json* value = get(name);
  if (value == nullptr) return std::nullopt;
  std::optional<int64_t> whole;
  if (value->is_number_unsigned()) {
    const auto number = value->get<uint64_t>();
    if (number <= uint64_t{std::numeric_limits<int64_t>::max()}) whole = static_cast<int64_t>(number);
  } else if (value->is_number_integer()) {
    whole = value->get<int64_t>();
  } else if (value->is_number_float()) {
    const auto number = value->get<double>();
    if (std::abs(number) < 0x1p53 && std::trunc(number) == number) whole = static_cast<int64_t>(number);
  }
  if (!whole || *whole < low || *whole > high) {
    refuse(name, fmt::format("is {}, not a whole number from {} to {}", shown_value(*value), low, high),
           "send such a number, or leave the field out");
  }
  return whole;
}

std::optional<double> RequestFields::number(const char* name, double low, double high) const {
  const json* value = get(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
    refuse(name, fmt::format("is {}, not a number from {} to {}", shown_value(*value), low, high),
           "send such a number, or leave the field out");
  }
  return value->get<double>();
}

std::optional<bool> RequestFields::boolean(const char* name) const {
  const json* value = get(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    refuse(name, "is " + shown_value(*value) + ", not true or false", "send true or false");
  }
  return value->get<bool>();
}

std::optional<std::string> RequestFields::string(const char* name, size_t max_bytes) const {
  const json* value = get(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(name, "is " + shown_value(*value) + ", not a string", "send a string");
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    refuse(name, fmt::format("has {} bytes, the limit is {}", text.size(), max_bytes),
           "send a shorter string");
  }
  return text;
}

std::vector<std::string> RequestFields::string_or_list(const char* name, size_t most) const {
  const json* value = get(name);
  if (value == nullptr) return {};
  if (value->is_array() && value->size() > most) {
    refuse(name, fmt::format("has {} entries, the limit is {}", value->size(), most), "send fewer");
  }
  const json one = value->is_array() ? json() : json::array({*value});
  std::vector<std::string> strings;
  for (const json& entry : value->is_array() ? *value : one) {
    if (!entry.is_string()) {
      refuse(name, "is " + shown_value(*value) + ", not a string or a list of strings",
             "send a string or a list of strings");
    }
    if (entry.get_ref<const std::string&>().empty()) {
      refuse(name, "holds an empty string", "leave it out");
    }
    strings.push_back(entry.get<std::string>());
  }
  return strings;
}

void RequestFields::refuse(std::string_view name, const std::string& words, const std::string& remedy) const {
  throw FieldError(ErrorKind::invalid_argument, place_of(name), words, remedy);
}

void RequestFields::not_supported(std::string_view name, const std::string& words,
                                  const std::string& remedy) const {
  throw FieldError(ErrorKind::unsupported, place_of(name), words, remedy);
}

}  // namespace fovea
