// Whole runs of a checkpoint: load, preprocessing, vision tower, prefill and decode.
#pragma once

#include <functional>
#include <vector>

#include "bench/bench.h"

namespace fovea::bench {

std::vector<std::string> run_names();
// The selected runs, each handed over when it is done. Throws what Engine::open throws.
void bench_runs(const BenchOptions& options, Meter& meter, const std::function<void(Result)>& done);

}  // namespace fovea::bench
