// What this machine can do at most: the yardsticks that speeds are compared with.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/buffer.h"

namespace fovea::bench {

// Median and (largest - smallest) / median of repeated measurements.
struct Measured {
  double median = 0;
  double spread_percent = 0;
};
Measured summary_of(std::vector<double> samples);

// Seconds that one call takes: on the wall, or those the processor spent on it in all threads, divided by
// their number. The second also means something on a machine that does other work.
enum class Clock { wall, processor };
double seconds_of(Clock clock, int workers, const std::function<void()>& work);

// The instructions the limits were measured with: "amx", "avx512", "avx2" or "portable".
const char* instruction_set();
// Whether this CPU multiplies bf16 (AMX or AVX512-BF16). Where it does not, bf16 data is multiplied as fp32.
bool has_native_bf16();

// 1e9 floating-point operations per second with operands in registers, on `workers` threads for about 10 ms.
double fp32_gflops(Clock clock, int workers);
double bf16_gflops(Clock clock, int workers);
// 1e9 multiplications and additions per second of 8-bit integers into 32-bit sums (AMX or VNNI where there is
// one).
double int8_gops(Clock clock, int workers);

// 1e9 bytes per second of a sum over all of `data`, on `workers` threads.
double read_gbps(Clock clock, const Buffer<uint64_t>& data, int workers);
// Writes every page once, so that reading really goes to memory.
void fill(Buffer<uint64_t>& data);

}  // namespace fovea::bench
