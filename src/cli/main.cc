// The command line: parse, call the engine, format. All work happens in the layers below.
#include <csignal>
#include <cstdio>

#include "base/error.h"
#include "base/freed_memory.h"
#include "base/parallel.h"
#include "cli/bus_error.h"
#include "cli/commands.h"
#include "comm/world.h"

namespace {

constexpr int kFailure = 1, kUsage = 2;

void refuse_several_ranks(const CLI::App& app) {
  const fovea::Launch start = fovea::launch();
  if (start.size == 1) return;
  const CLI::Option* zero = app.get_option_no_throw("--zero-stage");
  if (zero != nullptr && zero->count() > 0 && zero->as<int>() == 3) return;
  const CLI::Option* tensor = app.get_option_no_throw("--tensor-parallel");
  if (tensor != nullptr && tensor->count() > 0 && tensor->as<int>() > 1) return;
  const CLI::Option* map = app.get_option_no_throw("--device-map");
  if (map != nullptr && map->count() > 0) return;
  const std::string command = app.get_name();
  const char* remedy =
      map != nullptr    ? "give --zero-stage 3, --tensor-parallel or --device-map, or start it without mpirun"
      : zero != nullptr ? "give --zero-stage 3, or start it without mpirun"
                        : "start it without mpirun";
  throw fovea::Error(fovea::ErrorKind::invalid_argument,
                     fmt::format("fovea {} cannot share its work among {} ranks", command, start.size),
                     remedy);
}

// CLI11 does not say which subcommand it did not know, nor which help to read.
int usage_error(const CLI::App& app, const CLI::ParseError& error, const std::string& first) {
  const auto known = app.get_subcommands();  // the one that was given
  const std::string command = known.empty() ? "" : " " + known.front()->get_name();
  const bool unknown = command.empty() && !first.empty() && first.front() != '-';
  const std::string what = unknown ? fmt::format("there is no command '{}'", first) : error.what();
  fovea::fail_world(fmt::format("{}\n  remedy: see fovea{} --help", what, command), kUsage);
  return kUsage;
}

int run(int argc, char** argv) {
  fovea::set_default_threads();
  CLI::App app{"fovea runs Qwen2.5-VL checkpoints on the CPU, token for token like transformers."};
  app.set_version_flag("--version", FOVEA_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Start with: fovea run --help\nKernels are chosen by the CPU; "
      "FOVEA_ISA=scalar|avx2|avx512|avx512_vnni|avx512_bf16|amx "
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
  fovea::add_advise_command(app);
  fovea::add_quantize_command(app);
  for (CLI::App* command : app.get_subcommands({})) {
    command->parse_complete_callback([command] { refuse_several_ranks(*command); });
  }
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
  std::signal(SIGXFSZ, SIG_IGN);  // a write past `ulimit -f` then fails with an error, as on a full disk
  std::string failure;
  try {
    int code = 0;
    try {
      code = run(argc, argv);
    } catch (const fovea::ExitWith& exit) {
      code = exit.code;
    }
    if (code != kUsage) fovea::finish_world();
    return code;
  } catch (const fovea::Error& error) {
    failure = error.what();
  } catch (const std::bad_alloc&) {
    failure = "out of memory\n  remedy: use smaller images (--max-pixels) or a shorter prompt";
  } catch (const std::exception& error) {
    failure =
        fmt::format("internal error: {}\n  remedy: please report this with the command line", error.what());
  }
  fovea::fail_world(failure, kFailure);
  return kFailure;
}
