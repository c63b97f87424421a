// The command line: parse, call the engine, format. All work happens in the layers below.
#include <cstdio>

#include "base/error.h"
#include "base/freed_memory.h"
#include "cli/bus_error.h"
#include "cli/commands.h"

namespace {

constexpr int kFailure = 1, kUsage = 2;

// CLI11 does not say which subcommand it did not know, nor which help to read.
int usage_error(const CLI::App& app, const CLI::ParseError& error, const std::string& first) {
  const auto known = app.get_subcommands();  // the one that was given
  const std::string command = known.empty() ? "" : " " + known.front()->get_name();
  const bool unknown = command.empty() && !first.empty() && first.front() != '-';
  const std::string what = unknown ? fmt::format("there is no command '{}'", first) : error.what();
  fmt::print(stderr, "fovea: {}\n  remedy: see fovea{} --help\n", what, command);
  return kUsage;
}

int run(int argc, char** argv) {
  CLI::App app{"fovea runs Qwen2.5-VL checkpoints on the CPU, token for token like transformers."};
  app.set_version_flag("--version", FOVEA_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Start with: fovea run --help\nKernels are chosen by the CPU; "
      "FOVEA_ISA=scalar|avx2|avx512|avx512_vnni|avx512_bf16 "
      "forces one.");
  fovea::add_run_command(app);
  fovea::add_audit_command(app);
  fovea::add_eval_command(app);
  fovea::add_inspect_command(app);
  fovea::add_synth_command(app);
  fovea::add_logits_command(app);
  fovea::add_presets_command(app);
  fovea::add_suite_command(app);
  fovea::add_bench_command(app);
  fovea::add_plan_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    return usage_error(app, error, argc > 1 ? argv[1] : "");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  fovea::free_large_blocks_at_once();
  fovea::explain_bus_errors();
  try {
    return run(argc, argv);
  } catch (const fovea::ExitWith& exit) {
    return exit.code;
  } catch (const fovea::Error& error) {
    fmt::print(stderr, "fovea: {}\n", error.what());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr,
               "fovea: out of memory\n  remedy: use smaller images (--max-pixels) or a shorter prompt\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "fovea: internal error: {}\n  remedy: please report this with the command line\n",
               error.what());
  }
  return kFailure;
}
