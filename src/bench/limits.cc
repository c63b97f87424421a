#include "bench/limits.h"

#include <algorithm>
#include <atomic>
#include <ctime>
#include <string_view>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "base/parallel.h"
#include "kernels/kernels.h"

namespace fovea::bench {

namespace {

// Each loop keeps 12 independent sums: more than latency (4 to 6 cycles) times the two units of today's
// cores, and no more than 16 registers hold. It returns a value that depends on all of them, so nothing can
// be left out.
constexpr int kSums = 12;
using Loop = float (*)(int64_t steps);
struct Rate {
  Loop loop;
  int operations;  // per step and sum
};

float portable_loop(int64_t steps) {
  float sums[kSums][4] = {};
  for (int64_t i = 0; i < steps; ++i) {
    for (auto& sum : sums) {
      for (float& lane : sum) lane = lane * 0.5f + 1.f;
    }
  }
  float total = 0;
  for (const auto& sum : sums) {
    for (const float lane : sum) total += lane;
  }
  return total;
}

// Sums read kRuns places at once, a cache line each in turn: one run alone does not keep the memory busy.
// `run` is the number of elements of a run, a multiple of a line.
constexpr int kRuns = 4;
constexpr int64_t kLine = 8;

uint64_t portable_sum(const uint64_t* p, int64_t run) {
  uint64_t sums[kRuns] = {};
  for (int64_t i = 0; i < run; i += kLine) {
    for (int r = 0; r < kRuns; ++r) {
      for (int l = 0; l < kLine; ++l) sums[r] += p[r * run + i + l];
    }
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) float avx2_loop(int64_t steps) {
  __m256 sums[kSums];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  const __m256 half = _mm256_set1_ps(0.5f), one = _mm256_set1_ps(1.f);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) sums[s] = _mm256_fmadd_ps(sums[s], half, one);
  }
  for (int s = 1; s < kSums; ++s) sums[0] = _mm256_add_ps(sums[0], sums[s]);
  return _mm256_cvtss_f32(sums[0]);
}

// Unsigned times signed bytes, pairs to 16 bits, pairs of those to 32, added: what AVX2 has in place of VNNI.
__attribute__((target("avx2"))) float avx2_int8_loop(int64_t steps) {
  __m256i sums[kSums];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  const __m256i twos = _mm256_set1_epi8(2), ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) {
      // The sum is an operand, or the compiler would compute the product once.
      const __m256i products = _mm256_maddubs_epi16(_mm256_xor_si256(sums[s], twos), twos);
      sums[s] = _mm256_add_epi32(sums[s], _mm256_madd_epi16(products, ones));
    }
  }
  for (int s = 1; s < kSums; ++s) sums[0] = _mm256_add_epi32(sums[0], sums[s]);
  return static_cast<float>(_mm256_extract_epi32(sums[0], 0));
}

__attribute__((target("avx2"))) uint64_t avx2_sum(const uint64_t* p, int64_t run) {
  __m256i sums[kRuns] = {};
  for (int64_t i = 0; i < run; i += 4) {
#pragma GCC unroll 4
    for (int r = 0; r < kRuns; ++r) {
      sums[r] =
          _mm256_add_epi64(sums[r], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + r * run + i)));
    }
  }
  uint64_t lanes[4];
  const __m256i total =
      _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), total);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

// gcc 11 and 12 warn inside their own AVX-512 headers (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
__attribute__((target("avx512f"))) float avx512_loop(int64_t steps) {
  __m512 sums[kSums];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const __m512 half = _mm512_set1_ps(0.5f), one = _mm512_set1_ps(1.f);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) sums[s] = _mm512_fmadd_ps(sums[s], half, one);
  }
  for (int s = 1; s < kSums; ++s) sums[0] = _mm512_add_ps(sums[0], sums[s]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f,avx512bf16"))) float avx512_bf16_loop(int64_t steps) {
  __m512 sums[kSums];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const auto small = (__m512bh)_mm512_set1_epi32(0x20002000), one = (__m512bh)_mm512_set1_epi32(0x3f803f80);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) sums[s] = _mm512_dpbf16_ps(sums[s], small, one);
  }
  for (int s = 1; s < kSums; ++s) sums[0] = _mm512_add_ps(sums[0], sums[s]);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx512f,avx512vnni"))) float avx512_int8_loop(int64_t steps) {
  __m512i sums[kSums];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  const __m512i twos = _mm512_set1_epi8(2);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int s = 0; s < kSums; ++s) sums[s] = _mm512_dpbusd_epi32(sums[s], twos, twos);
  }
  for (int s = 1; s < kSums; ++s) sums[0] = _mm512_add_epi32(sums[0], sums[s]);
  return static_cast<float>(_mm512_reduce_add_epi32(sums[0]));
}

// Both loops below make 12 products of tiles in every kTileSteps-th step: they take as long as the others.
// How fast tiles are multiplied depends on the bits in them (they draw power), hence operands like real ones.
constexpr int64_t kTileSteps = 32;

__attribute__((target("amx-tile"))) void load_tiles() {
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } shape;
  alignas(64) uint16_t operand[512];  // bf16 between -2 and 2; as bytes, anything
  uint32_t bits = 1;
  for (uint16_t& value : operand) {
    bits = bits * 1664525u + 1013904223u;
    value = static_cast<uint16_t>((bits >> 31 << 15) | 0x3f00u | (bits >> 16 & 0xffu));
  }
  __asm__ volatile("" ::: "memory");  // gcc does not know how much memory the next lines read
  _tile_loadconfig(&shape);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, operand, 64);
  _tile_loadd(5, operand, 64);
  _tile_loadd(6, operand, 64);
  _tile_loadd(7, operand, 64);
}
__attribute__((target("amx-tile"))) float release_tiles() {
  alignas(64) float sums[256];
  _tile_stored(0, sums, 64);
  _tile_release();
  return sums[0] < 1 ? 1.f : 2.f;
}
__attribute__((target("amx-tile,amx-bf16"))) float amx_bf16_loop(int64_t steps) {
  load_tiles();
  for (int64_t i = 0; i < steps / kTileSteps * (kSums / 4); ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 5, 6);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
  return release_tiles();
}
__attribute__((target("amx-tile,amx-int8"))) float amx_int8_loop(int64_t steps) {
  load_tiles();
  for (int64_t i = 0; i < steps / kTileSteps * (kSums / 4); ++i) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 5, 6);
    _tile_dpbssd(2, 4, 7);
    _tile_dpbssd(3, 5, 7);
  }
  return release_tiles();
}

__attribute__((target("avx512f"))) uint64_t avx512_sum(const uint64_t* p, int64_t run) {
  __m512i sums[kRuns] = {};
  for (int64_t i = 0; i < run; i += kLine) {
#pragma GCC unroll 4
    for (int r = 0; r < kRuns; ++r) {
      sums[r] = _mm512_add_epi64(sums[r], _mm512_loadu_si512(p + r * run + i));
    }
  }
  uint64_t lanes[8];
  const __m512i total =
      _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
  _mm512_storeu_si512(lanes, total);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3] + lanes[4] + lanes[5] + lanes[6] + lanes[7];
}
#pragma GCC diagnostic pop

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() { return has_avx2() && __builtin_cpu_supports("avx512f"); }
// Granted to the kernels, and with them to this process.
bool has_tiles() {
  const auto& all = available_kernels();
  return std::any_of(all.begin(), all.end(),
                     [](const Kernels* k) { return k->name == std::string_view("amx"); });
}

Rate fp32_rate() {
  if (has_avx512()) return {avx512_loop, 32};
  if (has_avx2()) return {avx2_loop, 16};
  return {portable_loop, 8};
}
Rate bf16_rate() {
  if (has_tiles()) return {amx_bf16_loop, 2 * 16 * 16 * 32 / kTileSteps};
  return has_native_bf16() ? Rate{avx512_bf16_loop, 64} : fp32_rate();
}
Rate int8_rate() {
  if (has_tiles()) return {amx_int8_loop, 2 * 16 * 16 * 64 / kTileSteps};
  if (has_avx512() && __builtin_cpu_supports("avx512vnni")) return {avx512_int8_loop, 128};
  if (has_avx2()) return {avx2_int8_loop, 64};
  return fp32_rate();
}
uint64_t sum_of(const uint64_t* p, int64_t run) {
  if (has_avx512()) return avx512_sum(p, run);
  return has_avx2() ? avx2_sum(p, run) : portable_sum(p, run);
}
#else
Rate fp32_rate() { return {portable_loop, 8}; }
Rate bf16_rate() { return fp32_rate(); }
Rate int8_rate() { return fp32_rate(); }
uint64_t sum_of(const uint64_t* p, int64_t run) { return portable_sum(p, run); }
#endif

// Results end here, so that the compiler must compute them.
std::atomic<uint64_t> sink;

// Seconds until `work(worker)` is done on every worker. On the engine's own threads: they wait actively after
// a parallel section, and other threads would have to share the cores with them.
double seconds_on(Clock clock, int workers, const std::function<void(int)>& work) {
  return seconds_of(clock, workers,
                    [&] { parallel_for(workers, [&](int64_t worker) { work(static_cast<int>(worker)); }); });
}

double gflops(Clock clock, const Rate& rate, int workers) {
  constexpr int64_t kSteps = 3'000'000;  // 18e6 cycles on two units: 5 to 10 ms
  const double seconds =
      seconds_on(clock, workers, [&](int) { sink += static_cast<uint64_t>(rate.loop(kSteps)); });
  return static_cast<double>(kSteps) * kSums * rate.operations * workers / seconds / 1e9;
}

}  // namespace

Measured summary_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const double median = samples[samples.size() / 2];
  return {median, (samples.back() - samples.front()) / median * 100};
}

double seconds_of(Clock clock, int workers, const std::function<void()>& work) {
  const auto now = [&] {
    timespec time{};
    clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double start = now();
  work();
  return (now() - start) / (clock == Clock::wall ? 1 : workers);
}

const char* instruction_set() {
#ifdef __x86_64__
  if (has_tiles()) return "amx";
  if (has_avx512()) return "avx512";
  if (has_avx2()) return "avx2";
#endif
  return "portable";
}

bool has_native_bf16() {
#ifdef __x86_64__
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

double fp32_gflops(Clock clock, int workers) { return gflops(clock, fp32_rate(), workers); }
double bf16_gflops(Clock clock, int workers) { return gflops(clock, bf16_rate(), workers); }

double int8_gops(Clock clock, int workers) { return gflops(clock, int8_rate(), workers); }

double read_gbps(Clock clock, const Buffer<uint64_t>& data, int workers) {
  constexpr int64_t kPiece = 1 << 19;  // 4 MiB, taken in turn: a slowed worker does not hold the other
  std::atomic<int64_t> next = 0;
  const double seconds = seconds_on(clock, workers, [&](int) {
    for (int64_t at; (at = next.fetch_add(kPiece)) < data.size();) {
      sink += sum_of(data.data() + at, std::min(kPiece, data.size() - at) / (kRuns * kLine) * kLine);
    }
  });
  return static_cast<double>(data.size()) * 8 / seconds / 1e9;
}

void fill(Buffer<uint64_t>& data) {
  for (int64_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint64_t>(i);
}

}  // namespace fovea::bench
