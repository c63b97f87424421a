// One piece of work, timed beside the limit of the machine that bounds it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/limits.h"

namespace fovea::bench {

// What bounds a piece of work. Its `amount` is in operations, in bytes for `read`; `none` has no share.
enum class Bound { bf16, fp32, int8, read, none };

struct Work {
  std::string name;
  Bound bound = Bound::none;
  double amount = 0;  // of one call
  std::string unit;   // of `rate`, with its prefix giga: "GFLOP/s", "GB/s"
  std::function<void()> call;
  // Short calls are made so often in a repetition, one right after the other, as they are in a model; alone,
  // between two probes, each would begin with cold caches and sleeping threads.
  int64_t calls = 1;
  // A part of `call` that does not count, made on its own: its time is subtracted.
  std::function<void()> excluded = {};
  // Bytes that it reads beside its operations: where reading takes longer, that is its bound.
  double bytes = 0;
};

struct Result {
  std::string name;
  double share = 0;  // of the limit measured around each repetition; NaN without a bound
  double rate = 0;   // 1e9 x `unit` at the median time
  std::string unit;
  double median_s = 0;
  double spread = 0;  // (slowest - fastest) / median of the counted repetitions
  bool clean = false;
};

// The limits of this machine on all threads(), each the largest of all probes so far: what other work takes
// away is no property of the machine.
struct Limits {
  double read_gbps = 0, bf16_gflops = 0, fp32_gflops = 0, int8_gops = 0;
};

class Meter {
 public:
  Meter();  // measures the limits; about a second

  const Limits& limits() const { return limits_; }

  // The median of `repetitions` calls, each between two probes of its limit. A repetition is disturbed when
  // the mean of its probes lies more than a tenth under the largest probe of the run; it is made again, up to
  // three times as many calls in all. Calls of more than two seconds are made at most three times. What is
  // then still disturbed counts, and the result is not clean.
  Result measure(const Work& of, int repetitions);
  // The same from times that were measured elsewhere with probe(bound) before and after.
  struct Sample {
    double seconds, probe;
  };
  Result summary(const Work& work, const std::vector<Sample>& samples) const;
  // One measurement of a limit, in 1e9 per second. `none` probes the fp32 rate: it too shows what else runs.
  double probe(Bound bound);

 private:
  bool disturbed(Bound bound, double probe) const;
  // The work with the bound that takes longer of those it has.
  Work bounded(Work work) const;

  Buffer<uint64_t> memory_;
  Limits limits_;
};

}  // namespace fovea::bench
