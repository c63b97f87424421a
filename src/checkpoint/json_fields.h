// One JSON object read field by field: each value is checked, and at the end every field nobody read is
// refused or warned of.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// A field stated as null counts as absent, as in Hugging Face's own files.
class JsonFields {
 public:
  // `where` names the object in errors: "config.json" or "config.json: text_config". Both are borrowed.
  JsonFields(const nlohmann::json& object, std::string where);

  bool has(const std::string& field) const;     // stated and not null
  bool states(const std::string& field) const;  // stated, possibly as null
  // nullptr when absent; marks the field as read.
  const nlohmann::json* get(const std::string& field);

  // The field's value, or `fallback` when absent; whole numbers may be written as floats. Throw Error(corrupt
  // | invalid_argument) naming the field.
  int64_t integer(const std::string& field, int64_t fallback, int64_t low, int64_t high);
  double number(const std::string& field, double fallback, double low, double high);
  bool boolean(const std::string& field, bool fallback);
  std::string string(const std::string& field, const std::string& fallback);
  std::vector<int64_t> integers(const std::string& field, const std::vector<int64_t>& fallback, int64_t high);
  std::vector<double> numbers(const std::string& field, const std::vector<double>& fallback, double low,
                              double high);
  // One string or a list of them, none empty.
  std::vector<std::string> string_or_list(const std::string& field);
  // One integer or a list of them, as eos_token_id is.
  std::vector<int64_t> integer_or_list(const std::string& field, int64_t high);

  // Fields without influence on the computation.
  void ignore(std::initializer_list<std::string_view> fields);
  // Fields that change the computation in ways fovea does not do: accepted only when absent, null, or
  // `neutral`.
  void require(const std::string& field, const nlohmann::json& neutral);
  // Throws Error(unsupported) naming the first field nobody asked for.
  void refuse_the_rest() const;
  // One sentence about the fields nobody asked for, if there are any.
  void warn_of_the_rest(std::vector<std::string>& warnings) const;

  // The field's value, short enough for a line of text.
  std::string shown(const std::string& field) const;
  // For errors about a field's value: "config.json: text_config: hidden_size".
  std::string name_of(const std::string& field) const { return where_ + ": " + field; }

 private:
  std::vector<std::string> unread() const;
  [[noreturn]] void wrong_type(const std::string& field, const char* wanted) const;
  int64_t checked_integer(const nlohmann::json& value, const std::string& field, int64_t low,
                          int64_t high) const;
  double checked_number(const nlohmann::json& value, const std::string& field, double low, double high) const;

  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace fovea
