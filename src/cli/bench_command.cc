#include <cmath>
#include <nlohmann/json.hpp>

#include "base/input_files.h"
#include "base/parallel.h"
#include "bench/bench.h"
#include "cli/commands.h"
#include "cli/engine_flags.h"
#include "cli/files_read.h"
#include "cli/interrupt.h"
#include "cli/model_flag.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/text_file.h"

namespace fovea {

namespace {

using bench::BenchReport;
using bench::Result;

struct BenchFlags {
  bench::BenchOptions options;
  ModelFlag model;
  std::string json;
  int threads = 0;
  bool list = false;
};

std::string share_text(const Result& result) {
  return std::isnan(result.share) ? "" : fmt::format("{:.1f} %", 100 * result.share);
}

void print_report(const BenchReport& report) {
  const bench::Limits& l = report.limits;
  print_output(
      "limits with {} thread{}: reading {:.1f} GB/s, bf16 {:.0f} GFLOP/s, fp32 {:.0f} GFLOP/s, int8 {:.0f} "
      "Gop/s\n\n",
      threads(), threads() == 1 ? "" : "s", l.read_gbps, l.bf16_gflops, l.fp32_gflops, l.int8_gops);
  size_t width = 4;
  for (const Result& result : report.results) width = std::max(width, result.name.size());
  print_output("{:<{}}  {:>10}  {:>8}  {:>9}  {:>8}\n", "", width, "median", "+-", "rate", "share");
  for (const Result& r : report.results) {
    const std::string rate = r.unit.empty() ? "" : fmt::format("{:.1f} {}", r.rate, r.unit);
    print_output("{:<{}}  {:>8.3g} s  {:>6.1f} %  {:>16}  {:>8}{}\n", r.name, width, r.median_s,
                 50 * r.spread, rate, share_text(r), r.clean ? "" : "  disturbed");
  }
  if (!report.complete) print_output("stopped before the end\n");
}

void write_json(const BenchReport& report, const std::string& path) {
  const bench::Limits& l = report.limits;
  nlohmann::ordered_json json = {{"limits",
                                  {{"read_gbps", l.read_gbps},
                                   {"bf16_gflops", l.bf16_gflops},
                                   {"int8_gops", l.int8_gops},
                                   {"fp32_gflops", l.fp32_gflops}}},
                                 {"threads", threads()},
                                 {"instructions", bench::instruction_set()},
                                 {"complete", report.complete},
                                 {"results", nlohmann::ordered_json::array()}};
  for (const Result& r : report.results) {
    nlohmann::ordered_json entry = {{"name", r.name},  {"share", nullptr},       {"rate", r.rate},
                                    {"unit", r.unit},  {"median_s", r.median_s}, {"spread", r.spread},
                                    {"clean", r.clean}};
    if (!std::isnan(r.share)) entry["share"] = r.share;
    json["results"].push_back(std::move(entry));
  }
  write_file(path, json.dump(2) + "\n");
}

void run(BenchFlags flags) {
  if (flags.list) {
    for (const std::string& name : bench::bench_names()) print_output("{}\n", name);
    return;
  }
  stop_on_interrupt();
  start_threads(flags.threads);
  flags.options.model = model_files(flags.model);
  InputFiles inputs;
  if (!flags.model.empty()) add_files_of(flags.options.model, inputs);
  inputs.refuse_as_output(flags.json, "--json");
  check_writable(flags.json);
  ProgressBar bar;
  flags.options.progress = bar.callback();
  flags.options.cancel = &interrupted();
  const BenchReport report = bench::run_bench(flags.options);
  bar.clear();
  print_report(report);
  if (!flags.json.empty()) write_json(report, flags.json);
  if (!report.complete) throw ExitWith{kInterrupted};
}

}  // namespace

void add_bench_command(CLI::App& app) {
  const auto flags = std::make_shared<BenchFlags>();
  CLI::App* command =
      app.add_subcommand("bench", "measure this machine, the parts and whole runs, as shares of its limits");
  add_model_to(*command, flags->model)->description("checkpoint for whole runs; without it the parts alone");
  command->add_option("--only", flags->options.only, "names that contain this text, or match it with * and ?")
      ->type_name("PATTERN");
  command->add_option("--json", flags->json, "write the figures")->type_name("FILE");
  command
      ->add_option("--repetitions", flags->options.repetitions,
                   "of each part; whole runs are made at most three times")
      ->type_name("N")
      ->capture_default_str();
  add_threads(*command, flags->threads);
  command->add_flag("--list", flags->list, "print the names and end");
  command->footer(
      "Every repetition stands between two measurements of the limit that bounds it (multiplication rate or "
      "read\n"
      "bandwidth), and a share compares it with these two. When they show that something else used the "
      "machine, the\n"
      "repetition is made again; what cannot be measured undisturbed is marked.\n\n"
      "Examples:\n"
      "  fovea bench                                       the parts, in the shapes of 3B\n"
      "  fovea bench --only \"attention.causal.*\"\n"
      "  fovea synth --config 3b --out DIR                 random weights of the real size\n"
      "  fovea bench -m DIR --only prefill --json out.json");
  command->callback([flags] { run(*flags); });
}

}  // namespace fovea
