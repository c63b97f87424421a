// An error in OpenAI's form.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"

namespace fovea {

// {"error": {"message", "type", "param", "code"}}: the type is "invalid_request_error", or "server_error"
// where the request is not to blame; param is the field of a FieldError, null without one; the code is
// name_of(kind). The message holds the remedy, is at most some thousand bytes and has no control characters.
nlohmann::ordered_json error_object(const Error& error);

// The same for what no Error stands for: a path that is not there, a key that is wrong.
nlohmann::ordered_json error_object(const std::string& message, const char* type, const char* code);

// 400 for what the request is to blame for, limits included, as OpenAI answers a prompt that is too long; 500
// for io and numeric errors.
int http_status(const Error& error);

}  // namespace fovea
