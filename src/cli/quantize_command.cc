#include <fmt/format.h>

#include "base/error.h"
#include "base/input_files.h"
#include "base/parallel.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/model_flag.h"
#include "cli/option_values.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/text_file.h"
#include "cli/warnings.h"
#include "plan/plan_text.h"
#include "quantize/quantize.h"
#include "runtime/engine.h"

namespace fovea {

namespace {

struct QuantizeFlags {
  ModelFlag model;
  std::string out, weights, preset, policy, dtype;
  int threads = 0;
  bool force = false;
};

bool sets(const PrecisionPolicy& policy, const PolicyScope& scope, const std::string& node) {
  for (const ScopedSettings& scoped : policy.scopes()) {
    if (!(scoped.scope == scope)) continue;
    for (const NodeSetting& setting : scoped.settings) {
      if (setting.node == node) return true;
    }
  }
  return false;
}

// --weights, where --policy does not say otherwise.
void add_defaults(PrecisionPolicy& policy, const std::string& weights) {
  if (weights == "bf16" || weights == "fp16") return policy.set_dtype(parse_dtype(weights));
  const PrecisionPolicy defaults = PrecisionPolicy::parse_text(weights == "int4" ? kInt4Policy : kInt8Policy);
  for (const ScopedSettings& scoped : defaults.scopes()) {
    for (const NodeSetting& setting : scoped.settings) {
      if (!sets(policy, scoped.scope, setting.node)) policy.set(scoped.scope, setting.node, setting.value);
    }
  }
}

PrecisionPolicy policy_of(const QuantizeFlags& flags) {
  PrecisionPolicy policy;
  if (flags.policy.ends_with(".json")) {
    policy = PrecisionPolicy::parse_json(read_text_file(flags.policy));
  } else if (!flags.policy.empty()) {
    policy = PrecisionPolicy::parse_text(flags.policy);
  }
  if (!flags.preset.empty()) policy.set_preset(flags.preset);
  if (!flags.weights.empty()) {
    add_defaults(policy, flags.weights);
  } else if (flags.preset.empty() && flags.policy.empty()) {
    add_defaults(policy, "int8");
  }
  return policy;
}

void print_summary(const QuantizeSummary& summary, const std::string& out) {
  print_output("{:<10} {:>8} {:>12} {:>12} {:>12}\n", "stored as", "tensors", "parameters", "before", "now");
  for (const auto& [name, form] : summary.forms) {
    print_output("{:<10} {:>8} {:>10.1f} M {:>12} {:>12}\n", name, form.tensors,
                 static_cast<double>(form.parameters) / 1e6, bytes_text(form.bytes_before),
                 bytes_text(form.bytes));
  }
  print_output("{:<10} {:>8} {:>12} {:>12} {:>12}\nwrote {}\n", "all", "", "",
               bytes_text(summary.bytes_before), bytes_text(summary.bytes), out);
}

void quantize(const QuantizeFlags& flags) {
  start_threads(flags.threads);
  stop_on_interrupt();
  InputFiles inputs;
  if (!flags.policy.empty()) inputs.add(flags.policy);
  inputs.refuse_as_output_folder(flags.out, "--out");
  const Checkpoint checkpoint = Checkpoint::open(model_files(flags.model));
  print_warnings(checkpoint.warnings());
  EngineOptions engine;
  if (!flags.dtype.empty()) engine.dtype = parse_dtype(flags.dtype);
  const PrecisionPolicy policy = policy_of(flags);
  const ResolvedPolicy resolved = policy.resolve(policy_target(engine, checkpoint));
  QuantizeOptions options;
  options.out = flags.out;
  options.replace = flags.force;
  options.dtype = resolved.dtype;
  options.policy = policy.text();
  options.cancel = &interrupted();
  ProgressBar bar;
  const QuantizeSummary summary =
      quantize_checkpoint(checkpoint, resolved.precision, options, bar.callback());
  bar.clear();
  if (!summary.complete) {
    print_warning("fovea: interrupted, nothing was written\n");
    throw ExitWith{kInterrupted};
  }
  print_summary(summary, flags.out);
}

}  // namespace

void add_quantize_command(CLI::App& app) {
  const auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* command = app.add_subcommand(
      "quantize", "write a checkpoint again with weights in 8 or 4 bits, or another dtype");
  add_model_to(*command, flags->model)->required();
  command->add_option("--out", flags->out, "folder to write; it appears when it is complete")
      ->required()
      ->type_name("DIR")
      ->group(kCommonOptions);
  choose(command->add_option(
             "--weights", flags->weights,
             "bf16, fp16: plain; int8: per output channel, with the first and the last decoder layer and "
             "the vision tower as they are; int4: groups of 64, with those and the head in int8 "
             "(default: int8, unless --preset or --policy is given)"),
         {"bf16", "fp16", "int8", "int4"}, other_dtype_names())
      ->group(kCommonOptions);
  command->add_flag("--force", flags->force, "replace a checkpoint that is already there")
      ->group(kCommonOptions);
  add_threads(*command, flags->threads);
  command->add_option("--preset", flags->preset, "a preset's quantization: balanced, fast (fovea presets)")
      ->type_name("NAME")
      ->group("Precision");
  command
      ->add_option("--policy,--precision", flags->policy,
                   "by layer and module: the nodes quantization, mlp_quantization, head and weights of a "
                   "precision policy, or a .json file; goes before --weights and --preset")
      ->type_name("TEXT|FILE.json")
      ->group("Precision");
  choose(
      command->add_option("--dtype,--torch-dtype", flags->dtype,
                          "what is not quantized, and what the model computes in from then on (default: the "
                          "checkpoint's)"),
      {"fp32", "bf16", "fp16"}, other_dtype_names())
      ->group("Precision");
  command->footer(
      "The folder is read like any other: fovea run -m OUT computes with the weights as they are stored, bit "
      "for\n"
      "bit what --preset or --precision computes from the original, without the seconds of quantizing. "
      "Another\n"
      "quantization than the stored one is refused; --preset exact widens the weights again.\n\n"
      "Examples:\n"
      "  fovea quantize -m DIR --out DIR-int8\n"
      "  fovea quantize -m DIR --out DIR-int4 --weights int4\n"
      "  fovea quantize -m DIR --out DIR-fast --preset fast\n"
      "  fovea quantize -m DIR --out DIR-mixed --policy "
      "\"text.quantization=w8a8,text.mlp_quantization=int4,text.layers.0-1.quantization=none\"");
  command->callback([flags] { quantize(*flags); });
}

}  // namespace fovea
