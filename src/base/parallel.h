// The one place that knows which threading library is used.
#pragma once

#include <cstdint>
#include <exception>
#include <utility>

namespace fovea {

int threads();
// Throws Error(invalid_argument) unless 1 <= count <= 1024.
void set_threads(int count);
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
