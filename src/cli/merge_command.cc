#include <fmt/format.h>

#include "base/input_files.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/files_read.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/lora_flag.h"
#include "cli/model_flag.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/warnings.h"
#include "plan/plan_text.h"
#include "quantize/merge.h"

namespace fovea {
namespace {

struct MergeFlags {
  ModelFlag model;
  std::string lora, out;
  int threads = 0;
  bool force = false;
};

void print_summary(const MergeSummary& summary, const std::string& out) {
  print_output("{} matrices changed, {} tensors replaced, {} as they were\n", summary.changed,
               summary.replaced, summary.unchanged);
  if (summary.widened > 0) print_output("{} quantized tensors widened\n", summary.widened);
  if (summary.untied) print_output("the output head is a matrix of its own from now on\n");
  print_output("wrote {} ({})\n", out, bytes_text(summary.bytes));
}

void merge(const MergeFlags& flags) {
  start_threads(flags.threads);
  stop_on_interrupt();
  const LoraFlag lora = parse_lora_flag(flags.lora);
  const ModelFiles files = model_files(flags.model);
  InputFiles inputs;
  add_files_of(files, inputs);
  inputs.add(lora.dir);
  inputs.refuse_as_output_folder(flags.out, "--out");
  const Checkpoint checkpoint = Checkpoint::open(files);
  const LoraAdapter adapter = LoraAdapter::open(lora.dir, checkpoint.config());
  print_warnings(adapter.warnings());
  MergeOptions options;
  options.out = flags.out;
  options.replace = flags.force;
  options.scale = lora.scale;
  options.cancel = &interrupted();
  ProgressBar bar;
  const MergeSummary summary = merge_adapter(checkpoint, adapter, options, bar.callback());
  bar.clear();
  if (!summary.complete) {
    print_warning("fovea: interrupted, nothing was written\n");
    throw ExitWith{kInterrupted};
  }
  print_summary(summary, flags.out);
}

}  // namespace

void add_merge_command(CLI::App& app) {
  const auto flags = std::make_shared<MergeFlags>();
  CLI::App* command =
      app.add_subcommand("merge", "write a checkpoint again with a LoRA adapter added to its weights");
  add_model_to(*command, flags->model)->required();
  command
      ->add_option("--lora", flags->lora,
                   "folder of the adapter as PEFT writes it; :0.5 behind it adds half of it")
      ->required()
      ->type_name("DIR[:SCALE]")
      ->group(kCommonOptions);
  command->add_option("--out", flags->out, "folder to write; it appears when it is complete")
      ->required()
      ->type_name("DIR")
      ->group(kCommonOptions);
  command->add_flag("--force", flags->force, "replace a checkpoint that is already there")
      ->group(kCommonOptions);
  add_threads(*command, flags->threads);
  command->footer(
      "Each changed weight is computed in fp64 and rounded once to the type it is stored in. LoRA, rsLoRA "
      "and DoRA,\n"
      "modules_to_save, adapters of the language model, the vision tower and the merger.\n\n"
      "Example:\n"
      "  fovea merge -m DIR --lora ADAPTER --out DIR-merged");
  command->callback([flags] { merge(*flags); });
}

}  // namespace fovea
