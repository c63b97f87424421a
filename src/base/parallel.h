// The one place that knows which threading library is used.
#pragma once

#include <cstdint>
#include <exception>
#include <utility>

namespace fovea {

int threads();
// As many as there are physical cores that this process may use and its control group gives time to
// (base/processors.h), or what OMP_NUM_THREADS says; Error(invalid_argument) where that is no such number.
void set_default_threads();
// Throws Error(invalid_argument) unless 1 <= count <= 1024.
void set_threads(int count);
// Before long work: `count` threads, or as many as were set where it is 0. Where every usable core gets one,
// each worker is bound to its own, so that none is moved away from the caches it filled; but for the calling
// thread, whose own threads would inherit it. With fewer, or where OMP_PROC_BIND, OMP_PLACES or
// GOMP_CPU_AFFINITY is set, the system goes on placing them.
void start_threads(int count);
// 0-based index of the calling worker inside parallel_for, for per-thread scratch.
int thread_index();

// Runs body(i) for i in [0, count), each exactly once, on threads() threads; pieces are handed out as workers
// become free, so a worker slowed by the host does not hold the others. The first exception is rethrown.
template <typename Body>
void parallel_for(int64_t count, Body&& body) {
  std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic, 1) if (count > 1)
  for (int64_t i = 0; i < count; ++i) {
    try {
      body(i);
    } catch (...) {
#pragma omp critical(fovea_parallel_failure)
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace fovea
