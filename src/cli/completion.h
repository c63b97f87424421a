// Scripts that complete command lines in a shell, made from the parser itself.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace fovea {

// What may follow the words "fovea NAME" (name "": "fovea" alone).
struct CompletedCommand {
  struct Option {
    std::vector<std::string> names;   // with their dashes
    std::vector<std::string> values;  // that it takes; empty: others, such as files
    bool takes_value = false, takes_folder = false;
    std::string words;  // its line of the help
  };
  std::string name;                   // "suite make"
  std::string words;                  // its line of the help
  std::vector<std::string> commands;  // below it
  std::vector<Option> options;
};

// All commands below `app`, itself first.
std::vector<CompletedCommand> completed_commands(const CLI::App& app);

std::string bash_completion(const std::vector<CompletedCommand>& commands);
// Bash's, by zsh's own bashcompinit.
std::string zsh_completion(const std::vector<CompletedCommand>& commands);
std::string fish_completion(const std::vector<CompletedCommand>& commands);

}  // namespace fovea
