// The one place where commands print. What was asked for goes to standard output and has to arrive: a command
// whose output is lost has failed. What is said beside it goes to standard error and may be lost.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/printable.h"
#include "base/standard_error.h"

namespace fovea {

// First thing in main(): a closed standard input, output or error stays one that cannot be used, but its
// number is taken, so that no file opened later becomes it; and a pipe that nobody reads any more is an error
// of writing.
void take_standard_streams();

// Standard output does not take what was asked for: nothing that goes on has a reader.
struct OutputError : Error {
  using Error::Error;
};

// Bytes as they are. Throws OutputError when standard output is closed, full or gone; ends the process
// silently, as by SIGPIPE, when it is a pipe that nobody reads any more.
void write_output(std::string_view bytes);
// All that was written is with the reader, or OutputError.
void flush_output();

// Text for a person, with control characters spelled out (base/printable.h).
template <typename... Args>
void print_output(fmt::format_string<Args...> format, Args&&... args) {
  write_output(printable(fmt::format(format, std::forward<Args>(args)...)));
}
// One JSON value and the end of the line; text that is not UTF-8 is replaced.
void print_json(const nlohmann::ordered_json& json);

// How much is said on standard error: --quiet, neither, --verbose.
enum class Notes { few, usual, many };
Notes notes();
void set_notes(Notes notes);

// To standard error, control characters spelled out: what must not be overlooked, said with --quiet as well.
template <typename... Args>
void print_warning(fmt::format_string<Args...> format, Args&&... args) {
  write_standard_error(printable(fmt::format(format, std::forward<Args>(args)...)));
}
// What is usually of interest, and what is so with --verbose.
template <typename... Args>
void print_note(fmt::format_string<Args...> format, Args&&... args) {
  if (notes() != Notes::few) print_warning(format, std::forward<Args>(args)...);
}
template <typename... Args>
void print_detail(fmt::format_string<Args...> format, Args&&... args) {
  if (notes() == Notes::many) print_warning(format, std::forward<Args>(args)...);
}

}  // namespace fovea
