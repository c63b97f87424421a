#include "cli/completion.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace fovea {

namespace {

// "fp32|bf16|fp16" lists what the option takes; "FILE" or "MAP|FILE|auto" stand for something.
std::vector<std::string> values_of(const std::string& type) {
  std::vector<std::string> values;
  for (size_t at = 0; at <= type.size();) {
    const size_t end = std::min(type.find('|', at), type.size());
    values.push_back(type.substr(at, end - at));
    at = end + 1;
  }
  const auto is_a_value = [](const std::string& text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
    });
  };
  std::erase_if(values, [&](const std::string& value) { return !is_a_value(value); });
  return values;
}

CompletedCommand::Option option_of(const CLI::Option& option) {
  CompletedCommand::Option result;
  for (const std::string& name : option.get_snames()) result.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) result.names.push_back("--" + name);
  const std::string type = option.get_type_name();
  result.takes_value = option.get_items_expected_max() > 0;
  if (result.takes_value) result.values = values_of(type);
  result.takes_folder = type == "DIR";
  result.words = option.get_description();
  return result;
}

void collect(const CLI::App& app, const std::string& name, std::vector<CompletedCommand>& all) {
  CompletedCommand command;
  command.name = name;
  command.words = app.get_description();
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_snames().empty() || !option->get_lnames().empty()) {
      command.options.push_back(option_of(*option));
    }
  }
  const auto below = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* sub : below) command.commands.push_back(sub->get_name());
  all.push_back(std::move(command));
  for (const CLI::App* sub : below) {
    collect(*sub, name.empty() ? sub->get_name() : name + " " + sub->get_name(), all);
  }
}

// As one word of a shell.
std::string shell_word(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::vector<std::string> words_after(const CompletedCommand& command) {
  std::vector<std::string> words = command.commands;
  for (const auto& option : command.options)
    words.insert(words.end(), option.names.begin(), option.names.end());
  return words;
}

// The words of a case: "run:-m|run:--model".
std::string places(const CompletedCommand& command, const CompletedCommand::Option& option) {
  std::vector<std::string> all;
  for (const std::string& name : option.names) all.push_back(shell_word(command.name + ":" + name));
  return fmt::format("{}", fmt::join(all, "|"));
}

}  // namespace

std::vector<CompletedCommand> completed_commands(const CLI::App& app) {
  std::vector<CompletedCommand> all;
  collect(app, "", all);
  return all;
}

std::string bash_completion(const std::vector<CompletedCommand>& commands) {
  std::string names, values, words;
  for (const CompletedCommand& command : commands) {
    if (!command.name.empty()) {
      const size_t last = command.name.rfind(' ');
      const std::string place = last == std::string::npos
                                    ? ":" + command.name
                                    : command.name.substr(0, last) + ":" + command.name.substr(last + 1);
      names += fmt::format("      {}) command={};;\n", shell_word(place), shell_word(command.name));
    }
    for (const auto& option : command.options) {
      if (!option.takes_value) continue;
      const std::string reply = option.values.empty()
                                    ? std::string(option.takes_folder ? "-d" : "-f")
                                    : "-W " + shell_word(fmt::format("{}", fmt::join(option.values, " ")));
      values += fmt::format("    {}) COMPREPLY=($(compgen {} -- \"$current\")); return;;\n",
                            places(command, option), reply);
    }
    words += fmt::format("    {}) words={};;\n", shell_word(command.name),
                         shell_word(fmt::format("{}", fmt::join(words_after(command), " "))));
  }
  return fmt::format(R"(# Completes command lines of fovea in bash. Made by: fovea completion bash
_fovea() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="" words="" i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case "$command:${{COMP_WORDS[i]}}" in
{}    esac
  done
  case "$command:$previous" in
{}  esac
  case "$command" in
{}  esac
  if [[ "$current" == -* || -z "$command" ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -W "${{words%% -*}}" -- "$current") $(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _fovea fovea
)",
                     names, values, words);
}

std::string zsh_completion(const std::vector<CompletedCommand>& commands) {
  return "#compdef fovea\n# Completes command lines of fovea in zsh. Made by: fovea completion zsh\n"
         "autoload -U +X bashcompinit && bashcompinit\n" +
         bash_completion(commands);
}

std::string fish_completion(const std::vector<CompletedCommand>& commands) {
  std::string text = "# Completes command lines of fovea in fish. Made by: fovea completion fish\n";
  for (const CompletedCommand& command : commands) {
    std::string seen = "__fish_use_subcommand";
    if (!command.name.empty()) {
      seen.clear();
      for (size_t at = 0; at <= command.name.size();) {
        const size_t end = std::min(command.name.find(' ', at), command.name.size());
        seen += fmt::format("{}__fish_seen_subcommand_from {}", seen.empty() ? "" : "; and ",
                            command.name.substr(at, end - at));
        at = end + 1;
      }
    }
    for (const CompletedCommand& below : commands) {
      const size_t cut = below.name.rfind(' ');
      const std::string above = cut == std::string::npos ? "" : below.name.substr(0, cut);
      if (below.name.empty() || above != command.name) continue;
      text += fmt::format("complete -c fovea -n {} -a {} -d {}\n", shell_word(seen),
                          cut == std::string::npos ? below.name : below.name.substr(cut + 1),
                          shell_word(below.words));
    }
    for (const auto& option : command.options) {
      text += fmt::format("complete -c fovea -n {}", shell_word(seen));
      for (const std::string& name : option.names) {
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (option.takes_value) text += " -r";
      if (!option.values.empty()) {
        text += " -f -a " + shell_word(fmt::format("{}", fmt::join(option.values, " ")));
      }
      text += " -d " + shell_word(option.words) + "\n";
    }
  }
  return text;
}

}  // namespace fovea
