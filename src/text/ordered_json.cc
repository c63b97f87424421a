#include "text/ordered_json.h"

#include <set>
#include <vector>

#include "base/field_error.h"
#include "base/printable.h"

namespace fovea {

namespace {

void append_python_json(const OrderedJson& value, std::string& text) {
  if (!value.is_structured()) {
    text += value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    return;
  }
  text += value.is_object() ? '{' : '[';
  bool first = true;
  for (const auto& [key, part] : value.items()) {
    if (!first) text += ", ";
    first = false;
    if (value.is_object())
      text += OrderedJson(key).dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + ": ";
    append_python_json(part, text);
  }
  text += value.is_object() ? '}' : ']';
}

}  // namespace

OrderedJson parse_ordered_json(std::string_view text, const std::string& where) {
  if (text.size() > kMaxOrderedJsonBytes) {
    throw FieldError(ErrorKind::exhausted, where,
                     fmt::format("has {} bytes, the limit is {}", text.size(), kMaxOrderedJsonBytes),
                     "make it smaller");
  }
  std::vector<std::set<std::string>> open;  // objects, and the keys that they have so far
  size_t keys = 0;
  const auto watch = [&](int depth, OrderedJson::parse_event_t event, OrderedJson& parsed) {
    if (depth > kMaxOrderedJsonDepth) {
      throw FieldError(ErrorKind::exhausted, where,
                       fmt::format("is nested more than {} deep", kMaxOrderedJsonDepth), "make it flatter");
    }
    if (event == OrderedJson::parse_event_t::object_start) open.emplace_back();
    if (event == OrderedJson::parse_event_t::object_end) open.pop_back();
    if (event != OrderedJson::parse_event_t::key) return true;
    if (++keys > kMostOrderedJsonKeys) {
      throw FieldError(ErrorKind::exhausted, where,
                       fmt::format("has more than {} keys", kMostOrderedJsonKeys), "make it smaller");
    }
    if (!open.back().insert(parsed.get<std::string>()).second) {
      throw FieldError(ErrorKind::invalid_argument, where, "has the key " + shown_json(parsed) + " twice",
                       "leave one of them out");
    }
    return true;
  };
  try {
    return OrderedJson::parse(text, watch);
  } catch (const OrderedJson::exception& error) {
    constexpr size_t kLongest = 300;
    throw FieldError(ErrorKind::invalid_argument, where,
                     "is not valid JSON: " + printable(std::string(error.what()).substr(0, kLongest)),
                     "write JSON in UTF-8");
  }
}

std::string python_json(const OrderedJson& value) {
  std::string text;
  append_python_json(value, text);
  return text;
}

std::string shown_json(const OrderedJson& value) {
  constexpr size_t kLongest = 100;
  if (value.is_structured() && value.size() > kLongest) {
    return fmt::format("a JSON {} of {} entries", value.type_name(), value.size());
  }
  const std::string text = value.dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
  return text.size() <= kLongest ? text : text.substr(0, kLongest - 3) + "...";
}

}  // namespace fovea
