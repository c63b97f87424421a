// Whether a JSON value satisfies a schema, by the words of JSON Schema alone: a slow truth for tests, itself
// compared with what jsonschema says of the goldens. It knows the keywords that the goldens have.
#pragma once

#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "text/utf8.h"

namespace fovea {

class SchemaValidator {
 public:
  using Json = nlohmann::ordered_json;
  explicit SchemaValidator(const Json& root) : root_(root) {}
  bool is_valid(const Json& value) const { return fits(root_, value); }

 private:
  static int64_t characters(const std::string& text) {
    int64_t count = 0;
    for (std::string_view rest = text; !rest.empty(); ++count) rest.remove_prefix(next_utf8(rest).length);
    return count;
  }

  static bool is_of_type(const Json& value, const std::string& type) {
    if (type == "null") return value.is_null();
    if (type == "boolean") return value.is_boolean();
    if (type == "string") return value.is_string();
    if (type == "array") return value.is_array();
    if (type == "object") return value.is_object();
    if (!value.is_number()) return false;
    return type == "number" || value.is_number_integer() ||
           value.get<double>() == std::trunc(value.get<double>());
  }

  static bool is_of_format(const std::string& text, const std::string& format) {
    static const std::string kTime =
        "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d+)?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
    if (format == "date") return is_date(text);
    if (format == "time") return std::regex_match(text, std::regex(kTime));
    if (format == "date-time") {
      return text.size() > 11 && is_date(text.substr(0, 10)) && text[10] == 'T' &&
             is_of_format(text.substr(11), "time");
    }
    if (format == "uuid") {
      return std::regex_match(text, std::regex("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"));
    }
    if (format == "ipv4") {
      static const std::string kByte = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
      return std::regex_match(text, std::regex(kByte + "(\\." + kByte + "){3}"));
    }
    return format == "email" && text.find('@') != std::string::npos;  // jsonschema asks no more
  }

  static bool is_date(const std::string& text) {
    if (!std::regex_match(text, std::regex("\\d{4}-\\d{2}-\\d{2}"))) return false;
    const int year = std::stoi(text), month = std::stoi(text.substr(5)), day = std::stoi(text.substr(8));
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return year >= 1 && month >= 1 && month <= 12 && day >= 1 &&
           day <= kDays[month - 1] + (leap && month == 2 ? 1 : 0);
  }

  bool fits(const Json& schema, const Json& value) const {
    if (schema.is_boolean()) return schema.get<bool>();
    for (const auto& [keyword, stated] : schema.items()) {
      if (!holds(schema, keyword, stated, value)) return false;
    }
    return true;
  }

  bool holds(const Json& schema, const std::string& keyword, const Json& stated, const Json& value) const {
    const auto count_fitting = [&] {
      return std::count_if(stated.begin(), stated.end(), [&](const Json& one) { return fits(one, value); });
    };
    if (keyword == "$ref") {
      return fits(root_.at(Json::json_pointer(stated.get<std::string>().substr(1))), value);
    }
    if (keyword == "anyOf") return count_fitting() > 0;
    if (keyword == "oneOf") return count_fitting() == 1;
    if (keyword == "allOf") return count_fitting() == std::ssize(stated);
    if (keyword == "const") return value == stated;
    if (keyword == "enum") return std::find(stated.begin(), stated.end(), value) != stated.end();
    if (keyword == "type") {
      if (stated.is_string()) return is_of_type(value, stated);
      return std::any_of(stated.begin(), stated.end(),
                         [&](const Json& type) { return is_of_type(value, type); });
    }
    if (value.is_number()) return number_holds(keyword, stated, value.get<double>());
    if (value.is_string()) return string_holds(keyword, stated, value.get_ref<const std::string&>());
    if (value.is_array()) return array_holds(schema, keyword, stated, value);
    return !value.is_object() || object_holds(schema, keyword, stated, value);
  }

  static bool number_holds(const std::string& keyword, const Json& stated, double value) {
    if (keyword == "minimum") return value >= stated.get<double>();
    if (keyword == "maximum") return value <= stated.get<double>();
    if (keyword == "exclusiveMinimum") return value > stated.get<double>();
    return keyword != "exclusiveMaximum" || value < stated.get<double>();
  }

  static bool string_holds(const std::string& keyword, const Json& stated, const std::string& value) {
    if (keyword == "minLength") return characters(value) >= stated;
    if (keyword == "maxLength") return characters(value) <= stated;
    if (keyword == "pattern") return std::regex_search(value, std::regex(stated.get<std::string>()));
    return keyword != "format" || is_of_format(value, stated);
  }

  bool array_holds(const Json& schema, const std::string& keyword, const Json& stated,
                   const Json& value) const {
    if (keyword == "minItems") return value.size() >= stated;
    if (keyword == "maxItems") return value.size() <= stated;
    const size_t first = schema.contains("prefixItems") ? schema.at("prefixItems").size() : 0;
    if (keyword == "prefixItems") {
      for (size_t i = 0; i < std::min(first, value.size()); ++i) {
        if (!fits(stated[i], value[i])) return false;
      }
    }
    if (keyword == "items") {
      for (size_t i = first; i < value.size(); ++i) {
        if (!fits(stated, value[i])) return false;
      }
    }
    return true;
  }

  bool object_holds(const Json& schema, const std::string& keyword, const Json& stated,
                    const Json& value) const {
    if (keyword == "required") {
      return std::all_of(stated.begin(), stated.end(),
                         [&](const Json& name) { return value.contains(name.get<std::string>()); });
    }
    for (const auto& [name, part] : value.items()) {
      const bool listed = schema.contains("properties") && schema.at("properties").contains(name);
      if (keyword == "properties" && listed && !fits(stated.at(name), part)) return false;
      if (keyword == "additionalProperties" && !listed && !fits(stated, part)) return false;
    }
    return true;
  }

  const Json& root_;
};

}  // namespace fovea
