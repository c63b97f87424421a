#include "base/error.h"

#include <cstdio>
#include <cstdlib>

#include "base/printable.h"

namespace fovea {

const char* name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument:
      return "invalid_argument";
    case ErrorKind::not_found:
      return "not_found";
    case ErrorKind::corrupt:
      return "corrupt";
    case ErrorKind::unsupported:
      return "unsupported";
    case ErrorKind::exhausted:
      return "exhausted";
    case ErrorKind::io:
      return "io";
    case ErrorKind::numeric:
      return "numeric";
  }
  return "unknown";
}

namespace {

std::string in_one(const std::string& message, const std::string& remedy) {
  return printable(remedy.empty() ? message : message + "\n  remedy: " + remedy);
}

}  // namespace

Error::Error(ErrorKind kind, std::string message, std::string remedy)
    : std::runtime_error(in_one(message, remedy)),
      kind_(kind),
      message_(printable(message)),
      remedy_(printable(remedy)) {}

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "fovea: internal check failed: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace fovea
