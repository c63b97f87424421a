// machine_limits [--threads N] [--json]: the read bandwidth and multiplication rates that fovea's speed is
// measured against. Medians of kRepetitions, all kinds interleaved, so that a slow moment of the machine does
// not favour one.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/parallel.h"
#include "bench/limits.h"

namespace fovea::bench {
namespace {

constexpr int kRepetitions = 9;
constexpr int64_t kReadBytes = int64_t{1} << 30;

struct Limits {
  Measured read, fp32, bf16;
};

// The limits of one thread and of `workers`.
std::pair<Limits, Limits> measure(int workers) {
  Buffer<uint64_t> data(kReadBytes / 8);
  fill(data);
  std::vector<double> samples[2][3];
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    for (int all = 0; all < 2; ++all) {
      const int used = all == 1 ? workers : 1;
      samples[all][0].push_back(read_gbps(Clock::wall, data, used));
      samples[all][1].push_back(fp32_gflops(Clock::wall, used));
      samples[all][2].push_back(bf16_gflops(Clock::wall, used));
    }
  }
  const auto summary = [](const std::vector<double>(&of)[3]) {
    return Limits{summary_of(of[0]), summary_of(of[1]), summary_of(of[2])};
  };
  return {summary(samples[0]), summary(samples[1])};
}

void print_table(const Limits& one, const Limits& all, int workers) {
  const auto row = [&](const char* what, const char* unit, const Measured& single, const Measured& every) {
    fmt::print("{:<22} {:>8.1f} {:<8} +-{:>3.0f} % {:>8.1f} {:<8} +-{:>3.0f} %\n", what, single.median, unit,
               single.spread_percent / 2, every.median, unit, every.spread_percent / 2);
  };
  fmt::print("{:<22} {:<25} {} thread{}, {}\n", "", "1 thread", workers, workers == 1 ? "" : "s",
             instruction_set());
  row("memory, reading", "GB/s", one.read, all.read);
  row("fp32 multiply-add", "GFLOP/s", one.fp32, all.fp32);
  row(has_native_bf16() ? "bf16 dot product" : "bf16 (as fp32)", "GFLOP/s", one.bf16, all.bf16);
  const double noise = std::max(one.fp32.spread_percent, all.fp32.spread_percent);
  if (noise > 20)
    fmt::print("The rate of one loop varied by {:.0f} %: something else uses this machine.\n", noise);
}

void print_json(const Limits& one, const Limits& all, int workers) {
  fmt::print("{{\"threads\": {}, \"instructions\": \"{}\", \"bf16_native\": {}", workers, instruction_set(),
             has_native_bf16());
  const auto fields = [](const char* suffix, const Limits& limits) {
    const auto field = [&](const char* name, const Measured& value) {
      fmt::print(", \"{}{}\": {:.2f}, \"{}{}_spread_percent\": {:.1f}", name, suffix, value.median, name,
                 suffix, value.spread_percent);
    };
    field("read_gbps", limits.read);
    field("fp32_gflops", limits.fp32);
    field("bf16_gflops", limits.bf16);
  };
  fields("", all);
  fields("_one_thread", one);
  fmt::print("}}\n");
}

int run(int count, char** arguments) {
  bool json = false;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--json") == 0) {
      json = true;
    } else if (std::strcmp(arguments[i], "--threads") == 0 && i + 1 < count) {
      set_threads(std::atoi(arguments[++i]));
    } else {
      fmt::print(stderr, "usage: machine_limits [--threads N] [--json]\n");
      return 2;
    }
  }
  const int workers = threads();
  const auto [one, all] = measure(workers);
  json ? print_json(one, all, workers) : print_table(one, all, workers);
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int count, char** arguments) {
  try {
    return fovea::bench::run(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "machine_limits: {}\n", error.what());
    return 1;
  }
}
