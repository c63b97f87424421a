// Threads of the module. Engines, and the attention of transformers, have pools of their own, so that
// nobody's number is another's; what is left runs on the pool of base/parallel.h: resizing pictures,
// examining rows.
#pragma once

#include <atomic>
#include <mutex>
#include <shared_mutex>

#include "base/thread_pool.h"

namespace fovea::python {

// The number for who asks for none: of OMP_NUM_THREADS, or one for each physical core.
int default_threads();

// A pool that is made when it is first used, with whatever number its users want.
class SharedPool {
 public:
  // While this is held the pool stays as it is. It has `threads` threads, unless others who use it right now
  // want another number. Throws Error(unsupported) in a process that was forked after the pool was made,
  // whose threads are missing there.
  class Use {
   public:
    ThreadPool& pool() const { return *pool_; }

   private:
    friend class SharedPool;
    std::shared_lock<std::shared_mutex> lock_;
    ThreadPool* pool_ = nullptr;
  };
  Use use(int threads);
  // 0 before the first use. Not while another thread asks for another number.
  int threads() const {
    const ThreadPool* pool = pool_.load();
    return pool == nullptr ? 0 : pool->threads();
  }

 private:
  void change(int threads);

  std::shared_mutex changing_;
  // Lives as long as the process: threads may still compute when it ends. Once it is set, so is process_.
  std::atomic<ThreadPool*> pool_{nullptr};
  pid_t process_ = 0;
};

// Of work of a request. While one is held, the process's pool stays as it is; it has `threads` threads unless
// another request is under way.
std::shared_lock<std::shared_mutex> process_pool_of(int threads);

}  // namespace fovea::python
