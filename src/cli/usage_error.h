// What a command line that cannot be parsed gets told.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace fovea {

// The message and its remedy: which command or option is not known and which was probably meant, else the
// parser's own words.
std::string usage_error_text(const CLI::App& app, const CLI::ParseError& error);

}  // namespace fovea
