// kernel_bench [--threads N] [--isa NAME] [--shape TEXT] [--processor-time]: matrix products of Qwen2.5-VL as
// the model splits them, each repetition next to one of the machine's limit, so that the share holds on a
// machine with other work.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/parallel.h"
#include "bench/limits.h"
#include "kernels/kernels.h"

namespace fovea::bench {
namespace {

constexpr int kRepetitions = 9;
// As src/model/linear.cc.
constexpr int64_t kRowsPerTask = 512, kColsPerTask = 96, kColsPerTaskStreaming = 256;

struct Shape {
  const char* what;
  int64_t rows, cols, depth;
};
constexpr Shape kProducts[] = {{"3B q, o", 512, 2048, 2048},         {"3B gate, up", 512, 11008, 2048},
                               {"3B down", 512, 2048, 11008},        {"3B q, k, v", 512, 2560, 2048},
                               {"vision q, k, v", 2048, 3840, 1280}, {"vision gate, up", 2048, 3420, 1280},
                               {"vision down", 2048, 1280, 3420},    {"vision merger", 2048, 5120, 5120}};
constexpr Shape kDecodes[] = {{"decode q, o", 1, 2048, 2048},
                              {"decode gate, up", 1, 11008, 2048},
                              {"decode down", 1, 2048, 11008},
                              {"decode head", 1, 151936, 2048}};
// More than any cache holds: decode passes over this many weights before it meets the same ones again.
constexpr int64_t kDecodeWeights = int64_t{1} << 28;

struct Options {
  const Kernels* kernels;
  std::string shape;
  Clock clock;
};

enum class Operands { f32, bf16_weights, bf16 };
const char* name_of(Operands operands) {
  switch (operands) {
    case Operands::f32:
      return "fp32 x fp32";
    case Operands::bf16_weights:
      return "fp32 x bf16";
    case Operands::bf16:
      return "bf16 x bf16";
  }
  return "?";
}

// Small integers / 8: exact in every type, so that any order of the sum gives the same result.
struct Data {
  Buffer<float> x, w, y;
  Buffer<uint16_t> x16, w16;
  static constexpr int64_t kScratch = 1 << 20;  // of one thread; no variant works in more
  Buffer<char> scratch{threads() * kScratch};
  Data(const Shape& s, Operands operands, int64_t weights)
      : x(s.rows * s.depth),
        w(operands == Operands::f32 ? weights : 0),
        y(s.rows * s.cols),
        x16(x.size()),
        w16(weights) {
    for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 13 - 6) / 8;
    for (int64_t i = 0; i < w16.size(); ++i)
      w16[i] = bf16_from_f32(static_cast<float>(i * 104729 % 17 - 8) / 8);
    for (int64_t i = 0; i < w.size(); ++i) w[i] = f32_from_bf16(w16[i]);
    for (int64_t i = 0; i < x.size(); ++i) x16[i] = bf16_from_f32(x[i]);
  }
};

void multiply(const Kernels& k, const Shape& s, Operands operands, Data& data, int64_t first_weight) {
  const int64_t step = s.rows <= 4 ? kColsPerTaskStreaming : kColsPerTask;
  const int64_t col_tasks = (s.cols + step - 1) / step,
                row_tasks = (s.rows + kRowsPerTask - 1) / kRowsPerTask;
  parallel_for(col_tasks * row_tasks, [&](int64_t task) {
    const int64_t row = task / col_tasks * kRowsPerTask, col = task % col_tasks * step;
    const int64_t rows = std::min(kRowsPerTask, s.rows - row), cols = std::min(step, s.cols - col);
    const int64_t x = row * s.depth, w = first_weight + col * s.depth;
    float* y = data.y.data() + row * s.cols + col;
    void* scratch = data.scratch.data() + thread_index() * Data::kScratch;
    switch (operands) {
      case Operands::f32:
        return k.matmul_nt_f32(&data.x[x], s.depth, &data.w[w], s.depth, y, s.cols, rows, cols, s.depth);
      case Operands::bf16_weights:
        return k.matmul_nt_bf16(&data.x[x], s.depth, &data.w16[w], s.depth, y, s.cols, rows, cols, s.depth,
                                scratch);
      case Operands::bf16:
        return k.matmul_nt_bf16_bf16(&data.x16[x], s.depth, &data.w16[w], s.depth, y, s.cols, rows, cols,
                                     s.depth, {}, scratch);
    }
  });
}

// The first and the last result, exactly.
void check(const Shape& s, const Data& data, int64_t first_weight) {
  for (const int64_t at : {int64_t{0}, s.rows * s.cols - 1}) {
    double sum = 0;
    for (int64_t i = 0; i < s.depth; ++i) {
      sum += double{data.x[at / s.cols * s.depth + i]} *
             f32_from_bf16(data.w16[first_weight + at % s.cols * s.depth + i]);
    }
    FOVEA_CHECK(data.y[at] == sum);
  }
}

void bench_product(const Options& options, const Shape& s, Operands operands) {
  const int workers = threads();
  Data data(s, operands, s.cols * s.depth);
  std::vector<double> speeds, shares;
  multiply(*options.kernels, s, operands, data, 0);
  check(s, data, 0);
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    const auto limit = [&] {
      return operands == Operands::bf16 ? bf16_gflops(options.clock, workers)
                                        : fp32_gflops(options.clock, workers);
    };
    const double before = limit();
    const double seconds =
        seconds_of(options.clock, threads(), [&] { multiply(*options.kernels, s, operands, data, 0); });
    speeds.push_back(2e-9 * static_cast<double>(s.rows * s.cols * s.depth) / seconds);
    shares.push_back(speeds.back() / ((before + limit()) / 2) * 100);
  }
  fmt::print("{:<18} {:>5} x {:>6} x {:>5}  {}  {:>7.1f} GFLOP/s {:>4.0f} % of the {} limit (+-{:.0f})\n",
             s.what, s.rows, s.cols, s.depth, name_of(operands), summary_of(speeds).median,
             summary_of(shares).median, operands == Operands::bf16 ? "bf16" : "fp32",
             summary_of(shares).spread_percent * summary_of(shares).median / 200);
}

void bench_decode(const Options& options, const Shape& s, Operands operands, const Buffer<uint64_t>& memory) {
  const int64_t layers = std::max<int64_t>(1, kDecodeWeights / (s.cols * s.depth));
  Data data(s, operands, layers * s.cols * s.depth);
  std::vector<double> speeds, shares;
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    const double before = read_gbps(options.clock, memory, threads());
    const double seconds = seconds_of(options.clock, threads(), [&] {
      for (int64_t layer = 0; layer < layers; ++layer) {
        multiply(*options.kernels, s, operands, data, layer * s.cols * s.depth);
      }
    });
    check(s, data, (layers - 1) * s.cols * s.depth);
    speeds.push_back(static_cast<double>(layers * s.cols * s.depth) * 2e-9 / seconds);
    shares.push_back(speeds.back() / ((before + read_gbps(options.clock, memory, threads())) / 2) * 100);
  }
  fmt::print("{:<18} {:>5} x {:>6} x {:>5}  {}  {:>7.1f} GB/s    {:>4.0f} % of reading (+-{:.0f})\n", s.what,
             s.rows, s.cols, s.depth, name_of(operands), summary_of(speeds).median, summary_of(shares).median,
             summary_of(shares).spread_percent * summary_of(shares).median / 200);
}

int run(int count, char** arguments) {
  Options options{&kernels(), "", Clock::wall};
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    if (name == "--processor-time") {
      options.clock = Clock::processor;
      continue;
    }
    if (i + 1 == count || (name != "--threads" && name != "--isa" && name != "--shape")) {
      fmt::print(
          stderr,
          "usage: kernel_bench [--threads N] [--isa NAME] [--shape PART_OF_NAME] [--processor-time]\n");
      return 2;
    }
    const char* value = arguments[++i];
    if (name == "--threads") set_threads(std::atoi(value));
    if (name == "--isa") options.kernels = &kernels_named(value);
    if (name == "--shape") options.shape = value;
  }
  const auto wanted = [&](const Shape& s) { return std::strstr(s.what, options.shape.c_str()) != nullptr; };
  std::vector<Operands> kinds{Operands::bf16_weights, Operands::f32};
  if (options.kernels->matmul_nt_bf16_bf16 != nullptr) kinds.insert(kinds.begin(), Operands::bf16);
  fmt::print("{} kernels, {} threads; limits by {}\n", options.kernels->name, threads(), instruction_set());
  for (const Shape& s : kProducts) {
    for (const Operands kind : kinds) {
      if (wanted(s)) bench_product(options, s, kind);
    }
  }
  Buffer<uint64_t> memory(int64_t{1} << 26);
  fill(memory);
  kinds.pop_back();
  for (const Shape& s : kDecodes) {
    for (const Operands kind : kinds) {
      if (wanted(s)) bench_decode(options, s, kind, memory);
    }
  }
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int count, char** arguments) {
  try {
    return fovea::bench::run(count, arguments);
  } catch (const std::exception& error) {
    fmt::print(stderr, "kernel_bench: {}\n", error.what());
    return 1;
  }
}
