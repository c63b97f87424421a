// Prompt, pictures and videos of a command line, where "--image a.png b.png 'What?'" says all three.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace fovea {

struct PromptArguments {
  std::vector<std::string> images, videos;  // in the order of the command line
  std::string prompt;
  std::vector<std::string> notes;  // what may not have been meant
};

// --image, --video, -p and the arguments that belong to no option.
void add_prompt_options(CLI::App& command);

// One of those that add_prompt_options added.
bool is_prompt_option(const CLI::Option* option);

// Sorts what `command`, already parsed, was given. An argument behind --image or --video is one more of them
// when it names a file that exists or a URL, or ends like a picture or a video; the one that does not is the
// prompt. "-", or none, takes what `input` says; one newline at its end does not count. Throws
// Error(invalid_argument) for two prompts. Without any, `prompt` is empty.
PromptArguments prompt_arguments(const CLI::App& command,
                                 const std::function<std::string(bool asked)>& input);
// What stands in standard input, where "-" asks for it or it is a pipe or a file; otherwise nothing.
std::string prompt_of_input(bool asked);

}  // namespace fovea
