// The command line: parse, call the engine, format. All work happens in the layers below.
#include <csignal>
#include <memory>
#include <sstream>

#include "base/error.h"
#include "base/freed_memory.h"
#include "base/parallel.h"
#include "cli/bus_error.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/own_command.h"
#include "cli/usage_error.h"
#include "cli/version.h"
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
  const CLI::App* above = app.get_parent();
  const std::string command =
      above->get_parent() == nullptr ? app.get_name() : above->get_name() + " " + app.get_name();
  const char* remedy =
      map != nullptr && zero != nullptr
          ? "give --zero-stage 3, --tensor-parallel or --device-map, or start it without mpirun"
      : map != nullptr  ? "give --tensor-parallel or --device-map, or start it without mpirun"
      : zero != nullptr ? "give --zero-stage 3, or start it without mpirun"
                        : "start it without mpirun";
  throw fovea::Error(fovea::ErrorKind::invalid_argument,
                     fmt::format("fovea {} cannot share its work among {} ranks", command, start.size),
                     remedy);
}

void add_commands(CLI::App& app) {
  fovea::add_run_command(app);
  fovea::add_chat_command(app);
  fovea::add_batch_command(app);
  fovea::add_serve_command(app);
  fovea::add_audit_command(app);
  fovea::add_eval_command(app);
  fovea::add_report_command(app);
  fovea::add_inspect_command(app);
  fovea::add_synth_command(app);
  fovea::add_logits_command(app);
  fovea::add_presets_command(app);
  fovea::add_suite_command(app);
  fovea::add_bench_command(app);
  fovea::add_plan_command(app);
  fovea::add_advise_command(app);
  fovea::add_quantize_command(app);
  fovea::add_merge_command(app);
  fovea::add_completion_command(app);
}

void add_note_options(CLI::App& command) {
  const auto add = [&](const char* name, fovea::Notes notes, const char* words) {
    return command.add_flag_callback(
                      name, [notes] { fovea::set_notes(notes); }, words)
        ->group(fovea::kCommonOptions);
  };
  CLI::Option* quiet =
      add("-q,--quiet", fovea::Notes::few, "say nothing but the result, warnings and errors");
  add("-v,--verbose", fovea::Notes::many, "say more about how the result came about")->excludes(quiet);
}

// What holds for every command alike.
void complete_command(CLI::App& command) {
  for (CLI::App* own : command.get_subcommands([](CLI::App*) { return true; })) complete_command(*own);
  command.set_help_flag("-h,--help", "this text")->group(fovea::kCommonOptions);
  fovea::check_values(command);
  if (!command.get_subcommands([](CLI::App*) { return true; }).empty()) return;
  add_note_options(command);
  command.parse_complete_callback([&command] {
    fovea::set_default_threads();
    refuse_several_ranks(command);
  });
}

int run(int argc, char** argv) {
  CLI::App app{"fovea runs Qwen2.5-VL checkpoints on the CPU, token for token like transformers.", "fovea"};
  app.set_version_flag("-V,--version", fovea::version_text, "version, compiler, kernels and libraries");
  app.require_subcommand(1);
  app.formatter(std::make_shared<fovea::Help>(fovea::help_width()));
  app.footer(
      "Start with: fovea run --help\n\nKernels are chosen by the CPU; "
      "FOVEA_ISA=scalar|avx2|avx512|avx512_vnni|avx512_bf16|amx forces one.");
  add_commands(app);
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) complete_command(*command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      std::ostringstream text;
      app.exit(error, text, text);
      fovea::write_output(text.str());
      return 0;
    }
    fovea::fail_world(fovea::usage_error_text(app, error), kUsage);
    return kUsage;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  fovea::take_standard_streams();
  fovea::keep_command(argc, argv);
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
    fovea::flush_output();
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
