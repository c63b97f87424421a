#include "advise/machine.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format_version.h"
#include "base/output_file.h"
#include "base/parallel.h"
#include "checkpoint/direct_file.h"
#include "kernels/kernels.h"

namespace fovea {

namespace {

using nlohmann::ordered_json;

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

ordered_json read_cache(const std::filesystem::path& path) {
  std::ifstream file(path);
  ordered_json json = ordered_json::parse(file, nullptr, false);
  if (!json.is_object()) return ordered_json::object();
  const auto version = json.find("version");
  if (version != json.end() && version->is_number_integer())
    check_version(kMachineLimits, version->get<int64_t>(), path.string());
  return json;
}

constexpr std::pair<const char*, double bench::Limits::*> kFields[] = {
    {"read_gbps", &bench::Limits::read_gbps},
    {"bf16_gflops", &bench::Limits::bf16_gflops},
    {"fp32_gflops", &bench::Limits::fp32_gflops},
    {"int8_gops", &bench::Limits::int8_gops}};

// False when the entry is not one of ours.
bool read_limits(const ordered_json& entry, bench::Limits& limits) {
  for (const auto& [name, field] : kFields) {
    if (!entry.is_object() || !entry.contains(name) || !entry[name].is_number()) return false;
    limits.*field = entry[name].get<double>();
    if (!(limits.*field > 0)) return false;
  }
  return true;
}

}  // namespace

std::string Machine::key() const {
  return fmt::format("{}, {} threads, {}, {}", cpu, threads, kernels, bench::instruction_set());
}

Machine this_machine(const std::filesystem::path& cache, bool remeasure) {
  Machine machine;
  machine.cpu = cpu_model();
  machine.kernels = kernels().name;
  machine.threads = threads();
  machine.native_bf16 = kernels().matmul_nt_bf16_bf16 != nullptr;
  ordered_json known = read_cache(cache);
  const std::string key = machine.key();
  if (!remeasure && known.contains(key) && read_limits(known[key], machine.limits)) return machine;
  machine.limits = bench::Meter().limits();
  ordered_json entry;
  for (const auto& [name, field] : kFields) entry[name] = machine.limits.*field;
  known["version"] = kMachineLimits.version;
  known[key] = entry;
  std::error_code failure;
  std::filesystem::create_directories(cache.parent_path(), failure);
  if (failure) {
    throw Error(ErrorKind::io,
                fmt::format("cannot create {}: {}", cache.parent_path().string(), failure.message()),
                "set XDG_CACHE_HOME to a folder that can be written");
  }
  OutputFile file(cache);
  file.append(known.dump(2) + "\n");
  file.finish();
  return machine;
}

double measure_disk(const Checkpoint& checkpoint) {
  constexpr int64_t kPiece = 8 << 20, kMost = 256 << 20;
  std::filesystem::path largest;
  int64_t size = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
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
