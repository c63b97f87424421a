#include "cli/usage_error.h"

#include <fmt/format.h>

#include <vector>

#include "cli/option_values.h"
#include "cli/suggestion.h"

namespace fovea {

namespace {

// The innermost command that was given, and what to call it: "fovea suite make".
std::pair<const CLI::App*, std::string> given_command(const CLI::App& app) {
  const CLI::App* command = &app;
  std::string name = "fovea";
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    name += " " + command->get_name();
  }
  return {command, name};
}

std::vector<std::string> names_of_commands(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

std::vector<std::string> names_of_options(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::string with_remedy(const std::string& message, const std::string& remedy) {
  return message + "\n  remedy: " + remedy;
}

}  // namespace

std::string usage_error_text(const CLI::App& app, const CLI::ParseError& error) {
  const auto [command, name] = given_command(app);
  const std::string help = fmt::format("see {} --help", name);
  const std::vector<std::string> left = app.remaining(true), commands = names_of_commands(*command);
  if (!commands.empty() && !left.empty() && !left.front().starts_with('-')) {
    const std::string best = nearest(left.front(), commands);
    return with_remedy(fmt::format("there is no command {}", in_quotes(left.front())),
                       best.empty() ? help : fmt::format("did you mean {} {}? ({})", name, best, help));
  }
  for (const std::string& argument : left) {
    if (argument.size() < 2 || argument.front() != '-') continue;
    const std::string option = argument.substr(0, argument.find('='));
    const std::string foreign = foreign_option_remedy(option);
    const std::string best = nearest(option, names_of_options(*command));
    return with_remedy(fmt::format("{} has no option {}", name, in_quotes(option)),
                       !foreign.empty() ? fmt::format("{} ({})", foreign, help)
                       : best.empty()   ? help
                                        : fmt::format("did you mean {}? ({})", best, help));
  }
  return with_remedy(error.what(), help);
}

}  // namespace fovea
