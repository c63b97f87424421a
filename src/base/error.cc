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

// A file may hold a megabyte where a word belongs, and a message that quotes it must still fit on a screen.
std::string shown(const std::string& text) {
  constexpr size_t kHead = 3000, kTail = 500;
  if (text.size() <= kHead + kTail) return printable(text);
  return fmt::format("{} ... ({} bytes left out) ... {}", printable(std::string_view(text).substr(0, kHead)),
                     text.size() - kHead - kTail,
                     printable(std::string_view(text).substr(text.size() - kTail)));
}

std::string in_one(const std::string& message, const std::string& remedy) {
  return remedy.empty() ? shown(message) : shown(message) + "\n  remedy: " + shown(remedy);
}

}  // namespace

Error::Error(ErrorKind kind, std::string message, std::string remedy)
    : std::runtime_error(in_one(message, remedy)),
      kind_(kind),
      message_(shown(message)),
      remedy_(shown(remedy)) {}

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "fovea: internal check failed: %s (%s:%d)\n", condition, file, line);
  std::abort();
}

}  // namespace fovea
