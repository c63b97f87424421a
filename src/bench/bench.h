// `fovea bench`: what the machine can do, and which share of it the engine's parts and whole runs reach.
//
// Shapes are those of Qwen2.5-VL-3B for the parts, and those of the given checkpoint for whole runs. Every
// result is checked before it is timed. Operations are the useful ones: a causal score that is masked does
// not count.
#pragma once

#include <atomic>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "bench/measurement.h"
#include "checkpoint/model_files.h"

namespace fovea::bench {

struct BenchOptions {
  std::string only;     // names that contain this text or match it with * and ?; empty: all
  ModelFiles model;     // for whole runs; empty: parts alone
  int repetitions = 5;  // of a part; whole runs and calls of seconds are made at most three times
  ProgressFn progress;
  const std::atomic<bool>* cancel = nullptr;  // ends after the current measurement
};

struct BenchReport {
  Limits limits;
  std::vector<Result> results;
  bool complete = true;  // false: cancelled
};

// Every name that a run with a model knows, in order.
std::vector<std::string> bench_names();
// Whether `--only pattern` takes this name.
bool selects(std::string_view pattern, std::string_view name);

// Throws Error(invalid_argument) when `only` selects nothing, or whole runs without a model; and what
// Engine::open throws.
BenchReport run_bench(const BenchOptions& options);

}  // namespace fovea::bench
