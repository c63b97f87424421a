// One JSON object of a message list, read field by field. A field stated as null counts as absent; at the end
// every field that nobody asked for is refused.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace fovea {

constexpr const char* kPartForms =
    R"(write {"type": "text", "text": "..."}, {"type": "image", "image": "file.jpg"} or {"type": "video", "video": "file.mp4"})";

// Throw FieldError(invalid_argument | unsupported): "<field> <words>".
[[noreturn]] void refuse_message(const std::string& field, const std::string& words,
                                 const std::string& remedy);
[[noreturn]] void not_supported(const std::string& field, const std::string& words,
                                const std::string& remedy);

class MessageFields {
 public:
  // `where` names the object in errors: "messages[1].content[0]". Throws Error(invalid_argument) unless an
  // object.
  MessageFields(const nlohmann::json& object, std::string where);

  const std::string& where() const { return where_; }
  std::string place_of(const char* name) const { return where_ + '.' + name; }

  // Null when absent.
  const nlohmann::json* get(const char* name);
  // Throw FieldError(invalid_argument) naming the field when it is stated as anything else.
  std::optional<std::string> string(const char* name);
  std::optional<int64_t> pixels(const char* name);
  std::optional<int64_t> tokens(const char* name);
  std::optional<int64_t> side(const char* name);    // pixels of one side
  std::optional<int64_t> frames(const char* name);  // a number of frames
  std::optional<double> seconds(const char* name);  // not negative
  // Frames per second (base/frame_rate.h), as a number or, as in Qwen's examples, a string that holds one.
  std::optional<double> rate(const char* name);
  // Throws FieldError(unsupported) naming the first field that was never asked for.
  void refuse_the_rest() const;

 private:
  std::optional<int64_t> count(const char* name, const char* unit, const char* example, uint64_t most);
  std::optional<double> number(const char* name) const;  // of a number, or of a string that holds one

  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string> asked_;
};

}  // namespace fovea
