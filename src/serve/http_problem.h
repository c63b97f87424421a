// What went wrong with a request, as an answer in OpenAI's form.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

#include "serve/http_message.h"

namespace fovea {

// What HTTP has a status for and fovea's Error has no kind: a key that is wrong, a server that is full.
class HttpProblem : public std::runtime_error {
 public:
  HttpProblem(int status, const char* type, const char* code, const std::string& message)
      : std::runtime_error(message), status_(status), type_(type), code_(code) {}
  int status() const { return status_; }
  const char* type() const { return type_; }
  const char* code() const { return code_; }

 private:
  int status_;
  const char *type_, *code_;
};

HttpProblem bad_request(int status, const char* code, const std::string& message);
HttpProblem unavailable(const char* code, const std::string& message);
HttpProblem no_such_model(const std::string& model);

struct ProblemText {
  int status = 500;
  std::string json;  // {"error": {...}}, on one line
};

// Of an Error, an HttpProblem, or whatever else was thrown.
ProblemText problem_text(const std::exception_ptr& problem);
// 503 comes with Retry-After, 401 with WWW-Authenticate.
HttpResponse problem_response(const std::exception_ptr& problem);
HttpResponse problem_response(const HttpProblem& problem);

}  // namespace fovea
