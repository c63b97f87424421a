// Operating errors (files, configs, requests, memory): thrown as fovea::Error, always with a remedy.
// Programmer errors abort through FOVEA_CHECK.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace fovea {

enum class ErrorKind {
  invalid_argument,  // the request itself is wrong
  not_found,         // a file, tensor or field is missing
  corrupt,           // bytes that contradict their own format
  unsupported,       // valid, but fovea does not do it
  exhausted,         // memory, disk or a stated limit
  io,                // the operating system refused
  numeric,           // a non-finite value appeared, or a result failed its check
};

const char* name_of(ErrorKind kind);

// what() is "<message>\n  remedy: <remedy>", ready to be shown to a user.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string message, std::string remedy);
  ErrorKind kind() const { return kind_; }
  const std::string& message() const { return message_; }
  const std::string& remedy() const { return remedy_; }

 private:
  ErrorKind kind_;
  std::string message_, remedy_;
};

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace fovea

// An invariant of the program itself, checked in every build.
#define FOVEA_CHECK(condition) ((condition) ? void(0) : ::fovea::check_failed(#condition, __FILE__, __LINE__))
