// One JSON object of a request, read field by field. A field stated as null counts as absent, as OpenAI's
// clients send it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// One JSON object, not nested deeper than kMaxJsonDepth (checkpoint/strict_json.h) and without a key stated
// twice. `name` is what errors call it: "the request". Throws Error(invalid_argument | exhausted) with words
// that are short whatever the text is.
nlohmann::json parse_request_object(std::string_view text, const std::string& name, int64_t max_bytes);

// A value as it is shown in an error: short, on one line, control characters escaped.
std::string shown_value(const nlohmann::json& value);

class RequestFields {
 public:
  // `where` names the object: "" at the top, "stream_options" within it. `object` is borrowed. Throws
  // FieldError(invalid_argument) unless an object.
  RequestFields(const nlohmann::json& object, std::string where);

  const nlohmann::json& object() const { return object_; }
  std::string place_of(std::string_view name) const;

  // Null when absent.
  const nlohmann::json* get(const char* name) const;
  // Throw FieldError(invalid_argument) naming the field when it is of another type or outside [low, high].
  // Whole numbers may be written as 3.0.
  std::optional<int64_t> integer(const char* name, int64_t low, int64_t high) const;
  std::optional<double> number(const char* name, double low, double high) const;
  std::optional<bool> boolean(const char* name) const;
  std::optional<std::string> string(const char* name, size_t max_bytes) const;
  // Strings of which none is empty: one, or a list of at most `most`.
  std::vector<std::string> string_or_list(const char* name, size_t most) const;

  // Throw FieldError at a field: "<place> <words>".
  [[noreturn]] void refuse(std::string_view name, const std::string& words, const std::string& remedy) const;
  [[noreturn]] void not_supported(std::string_view name, const std::string& words,
                                  const std::string& remedy) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace fovea
