#include "checkpoint/json_fields.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace fovea {
namespace {

constexpr size_t kMaxListed = 4096;
constexpr size_t kMaxWarned = 12;
constexpr double kExactBelow = 0x1p53;  // every whole number below has a double of its own

// A value as it is shown in an error, short enough for a line, control characters escaped.
std::string shown_value(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

// Some writers know one kind of number only.
bool is_whole_float(const nlohmann::json& value) {
  if (!value.is_number_float()) return false;
  const auto number = value.get<double>();
  return std::abs(number) < kExactBelow && std::trunc(number) == number;
}

std::string quoted_in_json(const std::string& field) {
  const std::string text = shown_value(field);
  return text.substr(1, text.size() - (text.back() == '"' ? 2 : 1));
}

}  // namespace

JsonFields::JsonFields(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    throw Error(ErrorKind::corrupt, fmt::format("{} is {}, not an object", where_, shown_value(object)),
                "get the file again from its source");
  }
}

bool JsonFields::has(const std::string& field) const {
  const auto found = object_.find(field);
  return found != object_.end() && !found->is_null();
}

bool JsonFields::states(const std::string& field) const { return object_.contains(field); }

const nlohmann::json* JsonFields::get(const std::string& field) {
  read_.insert(field);
  return has(field) ? &*object_.find(field) : nullptr;
}

void JsonFields::wrong_type(const std::string& field, const char* wanted) const {
  throw Error(ErrorKind::corrupt, fmt::format("{} is {}, not {}", name_of(field), shown(field), wanted),
              "get the file again from its source");
}

int64_t JsonFields::checked_integer(const nlohmann::json& value, const std::string& field, int64_t low,
                                    int64_t high) const {
  const bool whole_float = is_whole_float(value);
  if (!value.is_number_integer() && !whole_float) wrong_type(field, "an integer");
  const bool beyond = value.is_number_unsigned() &&
                      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const int64_t number = beyond        ? std::numeric_limits<int64_t>::max()
                         : whole_float ? static_cast<int64_t>(value.get<double>())
                                       : value.get<int64_t>();
  if (number < low || number > high) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is {}, outside {} to {}", name_of(field), shown_value(value), low, high),
                "get the file again from its source, or correct the field");
  }
  return number;
}

double JsonFields::checked_number(const nlohmann::json& value, const std::string& field, double low,
                                  double high) const {
  if (!value.is_number()) wrong_type(field, "a number");
  const auto number = value.get<double>();
  if (!(number >= low && number <= high)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is {}, outside {} to {}", name_of(field), shown_value(value), low, high),
                "get the file again from its source, or correct the field");
  }
  return number;
}

int64_t JsonFields::integer(const std::string& field, int64_t fallback, int64_t low, int64_t high) {
  const nlohmann::json* value = get(field);
  return value == nullptr ? fallback : checked_integer(*value, field, low, high);
}

double JsonFields::number(const std::string& field, double fallback, double low, double high) {
  const nlohmann::json* value = get(field);
  return value == nullptr ? fallback : checked_number(*value, field, low, high);
}

bool JsonFields::boolean(const std::string& field, bool fallback) {
  const nlohmann::json* value = get(field);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) wrong_type(field, "true or false");
  return value->get<bool>();
}

std::string JsonFields::string(const std::string& field, const std::string& fallback) {
  const nlohmann::json* value = get(field);
  if (value == nullptr) return fallback;
  if (!value->is_string()) wrong_type(field, "a string");
  return value->get<std::string>();
}

std::vector<int64_t> JsonFields::integers(const std::string& field, const std::vector<int64_t>& fallback,
                                          int64_t high) {
  const nlohmann::json* value = get(field);
  if (value == nullptr) return fallback;
  if (!value->is_array() || value->size() > kMaxListed) wrong_type(field, "a list of integers");
  std::vector<int64_t> list;
  for (const nlohmann::json& item : *value) list.push_back(checked_integer(item, field, 0, high));
  return list;
}

std::vector<double> JsonFields::numbers(const std::string& field, const std::vector<double>& fallback,
                                        double low, double high) {
  const nlohmann::json* value = get(field);
  if (value == nullptr) return fallback;
  if (!value->is_array() || value->size() > kMaxListed) wrong_type(field, "a list of numbers");
  std::vector<double> list;
  for (const nlohmann::json& item : *value) list.push_back(checked_number(item, field, low, high));
  return list;
}

std::vector<std::string> JsonFields::string_or_list(const std::string& field) {
  const nlohmann::json* value = get(field);
  if (value == nullptr) return {};
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  std::vector<std::string> strings;
  for (const nlohmann::json& item : list) {
    if (!item.is_string() || list.size() > kMaxListed) wrong_type(field, "a string or a list of strings");
    strings.push_back(item.get<std::string>());
    if (!strings.back().empty()) continue;
    throw Error(ErrorKind::invalid_argument, name_of(field) + " holds an empty string",
                "remove it, or correct the field");
  }
  return strings;
}

std::vector<int64_t> JsonFields::integer_or_list(const std::string& field, int64_t high) {
  const nlohmann::json* value = get(field);
  if (value == nullptr) return {};
  if (value->is_array()) return integers(field, {}, high);
  return {checked_integer(*value, field, 0, high)};
}

void JsonFields::ignore(std::initializer_list<std::string_view> fields) {
  read_.insert(fields.begin(), fields.end());
}

void JsonFields::require(const std::string& field, const nlohmann::json& neutral) {
  const nlohmann::json* value = get(field);
  if (value == nullptr || *value == neutral) return;
  throw Error(ErrorKind::unsupported,
              fmt::format("{} is {}, which fovea does not support", name_of(field), shown_value(*value)),
              fmt::format("only {} is supported; use a checkpoint without it", shown_value(neutral)));
}

std::string JsonFields::shown(const std::string& field) const { return shown_value(object_.at(field)); }

std::vector<std::string> JsonFields::unread() const {
  std::vector<std::string> fields;
  for (const auto& item : object_.items()) {
    if (!item.value().is_null() && read_.count(item.key()) == 0) fields.push_back(item.key());
  }
  return fields;
}

void JsonFields::refuse_the_rest() const {
  for (const std::string& field : unread()) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} is a field fovea does not know (value {})", name_of(quoted_in_json(field)),
                            shown(field)),
                "if it does not change what the model computes, remove it from the file");
  }
}

void JsonFields::warn_of_the_rest(std::vector<std::string>& warnings) const {
  std::vector<std::string> list = unread();
  if (list.empty()) return;
  const size_t count = list.size();
  list.resize(std::min(count, kMaxWarned));
  for (std::string& field : list) field = fmt::format("{} ({})", quoted_in_json(field), shown(field));
  warnings.push_back(fmt::format("{}: not known to fovea and not used: {}{}", where_, fmt::join(list, ", "),
                                 count > kMaxWarned ? fmt::format(" and {} more", count - kMaxWarned) : ""));
}

}  // namespace fovea
