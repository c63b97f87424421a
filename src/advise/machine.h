// What advice depends on of a machine.
#pragma once

#include <filesystem>
#include <string>

#include "bench/measurement.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

struct Machine {
  std::string cpu;      // "model name" of /proc/cpuinfo
  std::string kernels;  // the variant in use: "avx512_bf16"
  int threads = 1;
  bool native_bf16 = false;  // multiplied as bf16, not as fp32
  bench::Limits limits;      // with `threads` threads
  double disk_gbps = 0;      // of the checkpoint's files past the page cache; 0: not measured

  // What measured limits belong to: the same text, the same figures.
  std::string key() const;
};

// This machine; its limits from `cache`, a JSON file, or else measured (two seconds) and added to it.
// `remeasure` measures anyway. A cache that cannot be read counts as empty, since it can always be made
// again; Error(io | exhausted) when it cannot be written.
Machine this_machine(const std::filesystem::path& cache, bool remeasure);

// 1e9 bytes per second of the largest weight file, read past the page cache as streaming does; up to 256 MiB.
double measure_disk(const Checkpoint& checkpoint);

}  // namespace fovea
