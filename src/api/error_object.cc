#include "api/error_object.h"

#include "base/field_error.h"
#include "base/printable.h"
#include "text/utf8.h"

namespace fovea {
namespace {

// Names quoted in a message may be as long as the request.
std::string bounded(const std::string& words) {
  constexpr size_t kLongest = 2000;
  const std::string shown = replace_malformed_utf8(printable(words.substr(0, kLongest)));
  return words.size() > kLongest ? shown + "..." : shown;
}

}  // namespace

int http_status(const Error& error) {
  return error.kind() == ErrorKind::io || error.kind() == ErrorKind::numeric ? 500 : 400;
}

nlohmann::ordered_json error_object(const std::string& message, const char* type, const char* code) {
  return {{"error", {{"message", bounded(message)}, {"type", type}, {"param", nullptr}, {"code", code}}}};
}

nlohmann::ordered_json error_object(const Error& error) {
  nlohmann::ordered_json param;
  const auto* at_field = dynamic_cast<const FieldError*>(&error);
  if (at_field != nullptr && !at_field->field().empty()) param = bounded(at_field->field());
  return {{"error",
           {{"message", bounded(error.message()) + ". " + bounded(error.remedy())},
            {"type", http_status(error) == 400 ? "invalid_request_error" : "server_error"},
            {"param", param},
            {"code", name_of(error.kind())}}}};
}

}  // namespace fovea
