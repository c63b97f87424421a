#include <fmt/format.h>

#include "checkpoint/synth.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/progress_bar.h"

namespace fovea {

void add_synth_command(CLI::App& app) {
  struct Flags {
    std::string config, out;
    uint64_t seed = 0;
    bool force = false;
  };
  const auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("synth", "write a checkpoint with random weights of a real shape");
  command->add_option("--config", flags->config, "3b, 7b, 32b, 72b, a config.json, or the folder with one")
      ->required()
      ->type_name("SHAPE");
  command->add_option("--out", flags->out, "folder to write; it appears when it is complete")
      ->required()
      ->type_name("DIR");
  command->add_option("--seed", flags->seed, "the same seed gives the same bytes")
      ->type_name("S")
      ->capture_default_str();
  command->add_flag("--force", flags->force, "replace a checkpoint that is already there");
  command->callback([flags] {
    ProgressBar bar;
    write_synthetic_checkpoint(flags->config, flags->out, flags->seed, flags->force, bar.callback());
    bar.clear();
    print_output("wrote {}\nIts weights are random: it has the real shape and speed, and answers nonsense.\n",
                 flags->out);
  });
}

}  // namespace fovea
