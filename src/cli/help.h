// The text of --help.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace fovea {

// Groups in the order in which a command adds them, wrapped to the width of the terminal, each option with
// its first short and its first long name, and its default.
class Help : public CLI::FormatterBase {
 public:
  explicit Help(int width) : width_(width) {}
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;

 private:
  int width_;
};

// Columns of the terminal that standard output is, else COLUMNS, else 80; 40 to 120.
int help_width();

// The group that every command begins with.
inline constexpr const char* kCommonOptions = "Common options";

}  // namespace fovea
