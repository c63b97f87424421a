#include "bench/measurement.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"

namespace fovea::bench {

namespace {

constexpr int64_t kReadBytes = int64_t{1} << 29;
constexpr double kQuiet = 0.9;

double Limits::*limit_of(Bound bound) {
  switch (bound) {
    case Bound::read:
      return &Limits::read_gbps;
    case Bound::bf16:
      return &Limits::bf16_gflops;
    case Bound::int8:
      return &Limits::int8_gops;
    default:
      return &Limits::fp32_gflops;
  }
}

double counted_seconds(const Work& work) {
  const auto calls = [&] {
    for (int64_t i = 0; i < work.calls; ++i) work.call();
  };
  const double seconds = seconds_of(Clock::wall, 1, calls) / static_cast<double>(work.calls);
  return work.excluded ? seconds - seconds_of(Clock::wall, 1, work.excluded) : seconds;
}

}  // namespace

Meter::Meter() : memory_(kReadBytes / 8) {
  fill(memory_);
  constexpr int kProbes = 5;
  for (int i = 0; i < kProbes; ++i) {
    for (const Bound bound : {Bound::read, Bound::fp32, Bound::bf16, Bound::int8}) probe(bound);
  }
}

double Meter::probe(Bound bound) {
  const double rate = bound == Bound::read   ? read_gbps(Clock::wall, memory_, threads())
                      : bound == Bound::bf16 ? bf16_gflops(Clock::wall, threads())
                      : bound == Bound::int8 ? int8_gops(Clock::wall, threads())
                                             : fp32_gflops(Clock::wall, threads());
  double& limit = limits_.*limit_of(bound);
  limit = std::max(limit, rate);
  return rate;
}

bool Meter::disturbed(Bound bound, double probe) const { return probe < kQuiet * limits_.*limit_of(bound); }

Work Meter::bounded(Work work) const {
  if (work.bytes / limits_.read_gbps > work.amount / limits_.*limit_of(work.bound)) {
    work.bound = Bound::read;
    work.amount = work.bytes;
    work.unit = "GB/s";
  }
  return work;
}

Result Meter::measure(const Work& of, int repetitions) {
  const Work work = bounded(of);
  constexpr double kLong = 2;  // seconds: such calls are made at most three times
  const double first = seconds_of(Clock::wall, 1, work.call);  // caches and pages; not counted
  if (first > kLong) repetitions = std::min(repetitions, 3);
  std::vector<Sample> quiet, all;
  double before = probe(work.bound);
  for (int i = 0; i < 3 * repetitions && static_cast<int>(quiet.size()) < repetitions; ++i) {
    const double seconds = counted_seconds(work), after = probe(work.bound);
    const Sample sample{seconds, (before + after) / 2};
    all.push_back(sample);
    if (!disturbed(work.bound, sample.probe)) quiet.push_back(sample);
    before = after;
  }
  return summary(work, static_cast<int>(quiet.size()) == repetitions ? quiet : all);
}

Result Meter::summary(const Work& work, const std::vector<Sample>& samples) const {
  std::vector<double> seconds, shares;
  Result result{.name = work.name, .unit = work.unit};
  result.clean = true;
  for (const Sample& sample : samples) {
    seconds.push_back(sample.seconds);
    shares.push_back(work.amount / sample.seconds / 1e9 / sample.probe);
    result.clean &= !disturbed(work.bound, sample.probe);
  }
  const Measured time = summary_of(seconds);
  result.median_s = time.median;
  result.spread = time.spread_percent / 100;
  result.rate = work.amount / time.median / 1e9;
  result.share =
      work.bound == Bound::none ? std::numeric_limits<double>::quiet_NaN() : summary_of(shares).median;
  return result;
}

}  // namespace fovea::bench
