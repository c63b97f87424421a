// `fovea completion`: what a shell needs to complete command lines.
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/option_values.h"
#include "cli/output.h"

namespace fovea {

void add_completion_command(CLI::App& app) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("completion", "print a script that completes command lines in a shell");
  choose(command->add_option("shell", *shell, "whose")->required(), {"bash", "zsh", "fish"});
  command->footer(
      "Examples:\n"
      "  fovea completion bash > ~/.local/share/bash-completion/completions/fovea\n"
      "  fovea completion zsh > \"${fpath[1]}/_fovea\"\n"
      "  fovea completion fish > ~/.config/fish/completions/fovea.fish");
  command->callback([shell, &app] {
    const std::vector<CompletedCommand> commands = completed_commands(app);
    write_output(*shell == "bash"  ? bash_completion(commands)
                 : *shell == "zsh" ? zsh_completion(commands)
                                   : fish_completion(commands));
  });
}

}  // namespace fovea
