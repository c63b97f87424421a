#include "bench/bench.h"

#include <fnmatch.h>

#include <algorithm>

#include "bench/parts.h"
#include "bench/runs.h"

namespace fovea::bench {

namespace {

std::vector<Part> all_parts() {
  std::vector<Part> parts;
  for (auto&& group : {linear_parts(), attention_parts(), elementwise_parts(), media_parts()}) {
    parts.insert(parts.end(), group.begin(), group.end());
  }
  return parts;
}

std::vector<std::string> part_names() {
  std::vector<std::string> names;
  for (const Part& part : all_parts()) names.push_back(part.name);
  return names;
}

bool selects_any(const BenchOptions& options, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return selects(options.only, name); });
}

void check_selection(const BenchOptions& options) {
  if (!selects_any(options, bench_names())) {
    throw Error(ErrorKind::invalid_argument, fmt::format("--only {} selects nothing", options.only),
                "fovea bench --list prints the names; * and ? stand for any text");
  }
  if (!selects_any(options, part_names()) && options.model.model.empty()) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("--only {} selects whole runs, and they need a model", options.only),
                "give -m DIR; fovea synth --config 3b --out DIR makes one of the real size");
  }
}

}  // namespace

std::vector<std::string> bench_names() {
  std::vector<std::string> names = part_names();
  const std::vector<std::string> runs = run_names();
  names.insert(names.end(), runs.begin(), runs.end());
  return names;
}

bool selects(std::string_view pattern, std::string_view name) {
  if (pattern.empty() || name.find(pattern) != std::string_view::npos) return true;
  return fnmatch(std::string(pattern).c_str(), std::string(name).c_str(), 0) == 0;
}

BenchReport run_bench(const BenchOptions& options) {
  check_selection(options);
  Meter meter;
  BenchReport report;
  const auto cancelled = [&] { return options.cancel != nullptr && *options.cancel; };
  const std::vector<std::string> names = bench_names();
  const int64_t total =
      std::count_if(names.begin(), names.end(), [&](const auto& n) { return selects(options.only, n); });
  const auto done = [&](Result result) {
    report.results.push_back(std::move(result));
    if (options.progress) options.progress("bench", std::ssize(report.results), total);
  };
  for (const Part& part : all_parts()) {
    if (selects(options.only, part.name) && !cancelled())
      done(meter.measure(part.make(), options.repetitions));
  }
  const bool any_run = !options.model.model.empty() && selects_any(options, run_names());
  if (any_run && !cancelled()) bench_runs(options, meter, done);
  report.limits = meter.limits();
  report.complete = !cancelled();
  return report;
}

}  // namespace fovea::bench
