// What a computation runs on: threads and kernels, chosen by whoever owns it and handed down.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace fovea {

// Borrowed by all who compute with it; cheap to copy.
struct Context {
  ThreadPool* pool;
  const Kernels* kernels;

  int threads() const { return pool->threads(); }
  // See ThreadPool::run.
  template <typename Body>
  void parallel_for(int64_t count, const Body& body) const {
    pool->run(count, body);
  }
};

// The process's threads (base/parallel.h) and kernels(), for all who are not handed others.
Context process_context();

}  // namespace fovea
