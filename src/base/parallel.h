// The thread pool of this process, for all who are not handed one.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace fovea {

// Made when first asked for: of as many threads as there are physical cores that this process may use and its
// control group gives time to (base/processors.h), or as OMP_NUM_THREADS says.
ThreadPool& process_threads();
int threads();
// Takes that default; Error(invalid_argument) where OMP_NUM_THREADS is set and no number from 1 to 1024.
void set_default_threads();
// A pool of another number in its place; not while anybody computes. Throws Error(invalid_argument) unless
// 1 <= count <= 1024.
void set_threads(int count);
// For a program before long work: `count` threads, or as many as were set where it is 0. Where every usable
// core gets one, each worker is bound to its own, so that none is moved away from the caches it filled; but
// for the calling thread, whose own threads would inherit it. With fewer, or where OMP_PROC_BIND, OMP_PLACES
// or GOMP_CPU_AFFINITY is set, the system goes on placing them.
void start_threads(int count);
// 0-based index of the calling worker inside parallel_for, for per-thread scratch.
inline int thread_index() { return ThreadPool::worker_of_this_thread(); }

// ThreadPool::run on the process's pool.
template <typename Body>
void parallel_for(int64_t count, const Body& body) {
  process_threads().run(count, body);
}

}  // namespace fovea
