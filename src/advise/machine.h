// What advice depends on of a machine.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bench/measurement.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

// The limits of a machine with so many threads, when they were measured, and what else ran.
struct Measured {
  bench::Limits limits;
  std::string when;  // "2026-12-01 05:40 UTC"
  double load = 0;   // the system's load average of the minute before
};

struct Machine {
  std::string cpu;      // "model name" of /proc/cpuinfo
  std::string kernels;  // the variant in use: "avx512_bf16"
  int threads = 1;
  int processors = 1;              // logical ones, which the load is compared with
  bool native_bf16 = false;        // multiplied as bf16, not as fp32
  Measured measured;               // with `threads` threads
  double disk_gbps = 0;            // of the checkpoint's files past the page cache
  std::vector<std::string> notes;  // what may make the figures doubtful: a sentence each

  // What measured limits belong to: the same text, the same figures.
  std::string key() const;
  // Other programs had more than a quarter of the processors.
  bool busy_at(double load) const { return load > 0.25 * processors; }
};

// This machine; its limits from `cache`, a JSON file (none: an empty path), or else measured (two seconds)
// and added to it. Limits that were measured beside other programs are measured again once those are gone;
// `remeasure` measures anyway. What is wrong with the cache, and limits of a busy machine, are among the
// notes.
Machine this_machine(const std::filesystem::path& cache, bool remeasure);

// What is assumed of a disk that holds no weights yet.
inline constexpr double kAssumedDiskGbps = 1;

// 1e9 bytes per second of the largest weight file, read past the page cache as streaming does; up to 256 MiB.
double measure_disk(const Checkpoint& checkpoint);

}  // namespace fovea
