// What the values of options may be, decided here for every command: numbers have bounds, words a list and
// other names that people know them by.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace fovea {

// Checks for the options of `command`: of those that the table of numbers in option_values.cc names the
// bounds, and no empty path. Called once, behind all add_option calls.
void check_values(CLI::App& command);

// For one option that is stricter than the table: whole numbers from `least` to `most`.
CLI::Validator whole_number(int64_t least, uint64_t most);

// The option takes one of `values`; of `others` the first word stands for the second. Returns the option.
using OtherNames = std::vector<std::pair<std::string, std::string>>;
CLI::Option* choose(CLI::Option* option, const std::vector<std::string>& values,
                    const OtherNames& others = {});

// "bfloat16", "half" and the other names of torch and vLLM.
const OtherNames& other_dtype_names();

// A text as a message quotes it: 'text', control characters spelled out and not longer than a line.
std::string in_quotes(std::string_view text);

}  // namespace fovea
