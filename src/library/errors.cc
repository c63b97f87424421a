#include "library/errors.h"

#include "base/field_error.h"

namespace fovea {

namespace {

v0::ErrorCode code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument:
      return v0::ErrorCode::invalid_argument;
    case ErrorKind::not_found:
      return v0::ErrorCode::not_found;
    case ErrorKind::corrupt:
      return v0::ErrorCode::corrupt;
    case ErrorKind::unsupported:
      return v0::ErrorCode::unsupported;
    case ErrorKind::exhausted:
      return v0::ErrorCode::exhausted;
    case ErrorKind::io:
      return v0::ErrorCode::io;
    case ErrorKind::numeric:
      return v0::ErrorCode::numeric;
  }
  return v0::ErrorCode::internal;
}

}  // namespace

v0::Error public_error(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const v0::Error& error) {
    return error;
  } catch (const FieldError& error) {
    return {code_of(error.kind()), error.message(), error.remedy(), error.field()};
  } catch (const Error& error) {
    return {code_of(error.kind()), error.message(), error.remedy()};
  } catch (const std::bad_alloc&) {
    return {v0::ErrorCode::exhausted, "there is not enough memory", "run fewer or smaller requests at once"};
  } catch (const std::exception& error) {
    return {v0::ErrorCode::internal, error.what(), "report it as a mistake of fovea's"};
  }
}

}  // namespace fovea

namespace fovea::v0 {

const char* name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::corrupt:
      return "corrupt";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::exhausted:
      return "exhausted";
    case ErrorCode::io:
      return "io";
    case ErrorCode::numeric:
      return "numeric";
    case ErrorCode::internal:
      return "internal";
  }
  return "unknown";
}

Error::Error(ErrorCode code, const std::string& message, const std::string& remedy, const std::string& field)
    : std::runtime_error(message + "\n  remedy: " + remedy),
      code_(code),
      message_(message),
      remedy_(remedy),
      field_(field) {}

Error::~Error() = default;

}  // namespace fovea::v0
