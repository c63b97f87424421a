#include "advise/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <thread>

#include "advise/machine_cache.h"
#include "base/parallel.h"
#include "base/processors.h"
#include "base/utc_time.h"
#include "checkpoint/direct_file.h"
#include "kernels/kernels.h"

namespace fovea {

namespace {

double load_of_last_minute() {
  double load = 0;
  return ::getloadavg(&load, 1) == 1 ? load : 0;
}

Measured measure(double load) {
  Measured measured;
  measured.load = load;
  measured.when = utc_now();
  measured.limits = bench::Meter().limits();
  return measured;
}

}  // namespace

std::string Machine::key() const {
  return fmt::format("{}, {} threads, {}, {}", cpu, threads, kernels, bench::instruction_set());
}

Machine this_machine(const std::filesystem::path& cache, bool remeasure) {
  Machine machine;
  machine.cpu = processor_name();
  machine.kernels = kernels().name;
  machine.threads = threads();
  machine.processors = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1U));
  machine.native_bf16 = kernels().matmul_nt_bf16_bf16 != nullptr;
  const double load = load_of_last_minute();
  std::string note;
  std::optional<Measured> known;
  if (!cache.empty() && !remeasure) known = read_measured(cache, machine.key(), note);
  if (known && machine.busy_at(known->load) && !machine.busy_at(load)) known.reset();
  if (!note.empty()) machine.notes.push_back(note + ": the limits were measured again");
  machine.measured = known ? *known : measure(load);
  if (!known) {
    const std::string lost = cache.empty() ? "neither XDG_CACHE_HOME nor HOME says where to keep them"
                                           : keep_measured(cache, machine.key(), machine.measured);
    if (!lost.empty())
      machine.notes.push_back(fmt::format("the limits are measured again every time: {}", lost));
  }
  if (machine.busy_at(machine.measured.load)) {
    machine.notes.push_back(
        fmt::format("the limits are doubtful: other programs ran when they were measured ({}, load {:.1f} on "
                    "{} processors); use --remeasure when the machine is idle",
                    machine.measured.when, machine.measured.load, machine.processors));
  }
  return machine;
}

double measure_disk(const Checkpoint& checkpoint) {
  constexpr int64_t kPiece = 8 << 20, kMost = 256 << 20;
  std::filesystem::path largest;
  int64_t size = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.file.empty()) continue;
    const std::filesystem::path path = checkpoint.dir() / tensor.file;
    const auto bytes = static_cast<int64_t>(std::filesystem::file_size(path));
    if (bytes > size) largest = path, size = bytes;
  }
  const DirectFile file = DirectFile::open(largest);
  PagedMemory memory;
  memory.resize(kPiece + kDirectPage);
  int64_t at = 0;
  const double seconds = bench::seconds_of(bench::Clock::wall, 1, [&] {
    for (const int64_t end = std::min(size, kMost); at < end;) {
      const int64_t piece = std::min(kPiece, end - at);
      file.read(at, piece, memory.data());
      at += piece;
    }
  });
  return static_cast<double>(at) / seconds / 1e9;
}

}  // namespace fovea
