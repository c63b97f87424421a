#include "base/parallel.h"

#include <omp.h>

#include <charconv>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/processors.h"

namespace fovea {

namespace {

constexpr int kMostThreads = 1024;

const Processors& processors() {
  static const Processors found = usable_processors();
  return found;
}

}  // namespace

int threads() { return omp_get_max_threads(); }

void set_threads(int count) {
  if (count < 1 || count > kMostThreads) {
    throw Error(ErrorKind::invalid_argument, fmt::format("cannot run on {} threads", count),
                fmt::format("give --threads a number from 1 to {}", kMostThreads));
  }
  omp_set_num_threads(count);
}

void set_default_threads() {
  const char* variable = std::getenv("OMP_NUM_THREADS");
  if (variable == nullptr || *variable == '\0') return set_threads(processors().threads());
  // A list, a number for each level of nesting, is refused, too: threads() would be the second number inside
  // a parallel region, and work that is shared among one number of threads would be done by another.
  const std::string_view text = variable;
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1 || count > kMostThreads) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("OMP_NUM_THREADS={} in the environment is no number of threads", text.substr(0, 60)),
        fmt::format("set it to one number from 1 to {}, or unset it", kMostThreads));
  }
  set_threads(count);
}

void start_threads(int count) {
  if (count != 0) set_threads(count);
  for (const char* name : {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}) {
    if (std::getenv(name) != nullptr) return;
  }
  const std::vector<int>& cores = processors().cores;
  if (threads() == 1 || std::ssize(cores) != threads()) return;
#pragma omp parallel
  if (thread_index() > 0) bind_to_processor(cores[static_cast<size_t>(thread_index())]);
}

int thread_index() { return omp_get_thread_num(); }

}  // namespace fovea
