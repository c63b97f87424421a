// The subcommands of `fovea`. Each adds itself to the parser; its callback does the work and throws Error.
#pragma once

#include <CLI/CLI.hpp>

namespace fovea {

void add_run_command(CLI::App& app);
void add_chat_command(CLI::App& app);
void add_batch_command(CLI::App& app);
void add_serve_command(CLI::App& app);
void add_audit_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_report_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_synth_command(CLI::App& app);
void add_logits_command(CLI::App& app);
void add_presets_command(CLI::App& app);
void add_suite_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_advise_command(CLI::App& app);
void add_quantize_command(CLI::App& app);
void add_merge_command(CLI::App& app);
void add_completion_command(CLI::App& app);

// Ends the process with this code after a command that did its work, but not to the natural end.
struct ExitWith {
  int code;
};

}  // namespace fovea
