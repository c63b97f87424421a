#include "base/parallel.h"

#include <omp.h>

#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "base/processors.h"

namespace fovea {

namespace {

const Processors& processors() {
  static const Processors found = usable_processors();
  return found;
}

}  // namespace

int threads() { return omp_get_max_threads(); }

void set_threads(int count) {
  if (count < 1 || count > 1024) {
    throw Error(ErrorKind::invalid_argument, fmt::format("cannot run on {} threads", count),
                "give --threads a number from 1 to 1024");
  }
  omp_set_num_threads(count);
}

void set_default_threads() {
  if (std::getenv("OMP_NUM_THREADS") == nullptr) set_threads(processors().threads());
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
