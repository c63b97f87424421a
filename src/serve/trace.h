// What each step did, in Chrome's format for traces (chrome://tracing, Perfetto).
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>

#include "runtime/batch_engine.h"

namespace fovea {

// For one thread.
class StepTrace {
 public:
  using Clock = std::chrono::steady_clock;

  // Throws Error(io) when the file cannot be written.
  explicit StepTrace(const std::filesystem::path& path);
  // Closes the list of events, which readers also take without its end.
  ~StepTrace();
  StepTrace(const StepTrace&) = delete;
  StepTrace& operator=(const StepTrace&) = delete;

  // A step from `start` to now, and what the engine's counters were before and after it. A file that cannot
  // be written any more is left as it is: nobody's answer waits for it.
  void step(Clock::time_point start, const BatchMetrics& before, const BatchMetrics& after);

 private:
  double micros(Clock::time_point time) const;

  std::ofstream file_;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace fovea
