#include "serve/http_problem.h"

#include <new>

#include "api/chat_response.h"
#include "api/error_object.h"
#include "base/error.h"

namespace fovea {

HttpProblem bad_request(int status, const char* code, const std::string& message) {
  return {status, "invalid_request_error", code, message};
}

HttpProblem unavailable(const char* code, const std::string& message) {
  return {503, "unavailable_error", code, message};
}

HttpProblem no_such_model(const std::string& model) {
  return {404, "not_found_error", "model_not_found",
          fmt::format("the model '{}' does not exist; GET /v1/models names the one that does",
                      model.substr(0, 200))};
}

ProblemText problem_text(const std::exception_ptr& problem) {
  const auto text = [](int status, const nlohmann::ordered_json& json) {
    return ProblemText{status, json_line(json)};
  };
  try {
    std::rethrow_exception(problem);
  } catch (const HttpProblem& error) {
    return text(error.status(), error_object(error.what(), error.type(), error.code()));
  } catch (const Error& error) {
    return text(http_status(error), error_object(error));
  } catch (const std::bad_alloc&) {
    return text(503, error_object("there is not enough memory for this request just now", "unavailable_error",
                                  "out_of_memory"));
  } catch (const std::exception& error) {
    return text(500,
                error_object(std::string("internal error: ") + error.what(), "server_error", "internal"));
  }
}

HttpResponse problem_response(const std::exception_ptr& problem) {
  ProblemText text = problem_text(problem);
  HttpResponse response;
  response.status = text.status;
  response.body = std::move(text.json);
  if (response.status == 503) response.headers.emplace_back("Retry-After", "2");
  if (response.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

HttpResponse problem_response(const HttpProblem& problem) {
  return problem_response(std::make_exception_ptr(problem));
}

}  // namespace fovea
