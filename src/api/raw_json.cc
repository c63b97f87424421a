#include "api/raw_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace fovea {

namespace {

// Goes over valid JSON; whatever the text is, never beyond its end.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
    skip_space();
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    skip_space();
    return true;
  }
  bool done() const { return at_ >= text_.size(); }

  std::string_view value() {
    const size_t begin = at_;
    int depth = 0;
    do {
      if (done()) break;
      const char c = text_[at_];
      if (c == '"') {
        skip_string();
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at_;
      } else if (c == '}' || c == ']') {
        --depth;
        ++at_;
      } else {
        at_ = std::min(text_.find_first_of(depth == 0 ? ",]} \t\r\n" : "{}[]\"", at_ + 1), text_.size());
      }
    } while (depth > 0);
    const std::string_view value = text_.substr(begin, at_ - begin);
    skip_space();
    return value;
  }

 private:
  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
  void skip_string() {
    for (++at_; at_ < text_.size() && text_[at_] != '"';) at_ += text_[at_] == '\\' ? 2 : 1;
    at_ = std::min(at_ + 1, text_.size());
  }

  std::string_view text_;
  size_t at_ = 0;
};

bool is_key(std::string_view written, std::string_view key) {
  if (written.size() < key.size() + 2) return false;
  if (written.find('\\') == std::string_view::npos) return written.substr(1, written.size() - 2) == key;
  const auto parsed = nlohmann::json::parse(written, nullptr, false);
  return parsed.is_string() && parsed.get_ref<const std::string&>() == key;
}

}  // namespace

std::optional<std::string_view> raw_member(std::string_view object, std::string_view key) {
  Cursor cursor(object);
  if (!cursor.take('{')) return std::nullopt;
  while (!cursor.done() && !cursor.take('}')) {
    const std::string_view name = cursor.value();
    if (!cursor.take(':')) return std::nullopt;
    const std::string_view value = cursor.value();
    if (is_key(name, key)) return value;
    if (!cursor.take(',')) break;
  }
  return std::nullopt;
}

std::vector<std::string_view> raw_elements(std::string_view array) {
  std::vector<std::string_view> elements;
  Cursor cursor(array);
  if (!cursor.take('[')) return elements;
  while (!cursor.done() && !cursor.take(']')) {
    elements.push_back(cursor.value());
    if (!cursor.take(',')) break;
  }
  return elements;
}

}  // namespace fovea
