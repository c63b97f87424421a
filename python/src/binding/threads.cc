#include "binding/threads.h"

#include <unistd.h>

#include "base/error.h"
#include "base/parallel.h"

namespace fovea::python {

namespace {

std::shared_mutex process_pool_changing;

}  // namespace

int default_threads() {
  static const int found = [] {
    const std::unique_lock lock(process_pool_changing);
    set_default_threads();
    return threads();
  }();
  return found;
}

SharedPool::Use SharedPool::use(int threads) {
  if (pool_.load() != nullptr && getpid() != process_) {
    throw Error(
        ErrorKind::unsupported,
        "fovea's attention was used before this process was forked, and its threads are not in the fork",
        "start processes with multiprocessing.set_start_method(\"spawn\"), or attend in one process only");
  }
  Use use;
  use.lock_ = std::shared_lock(changing_);
  if (this->threads() != threads) {
    use.lock_.unlock();
    change(threads);
    use.lock_.lock();
  }
  use.pool_ = pool_.load();
  return use;
}

void SharedPool::change(int threads) {
  const std::unique_lock lock(changing_);
  ThreadPool* pool = pool_.load();
  if (pool == nullptr) {
    process_ = getpid();
    pool_.store(new ThreadPool(threads));
  } else if (pool->threads() != threads) {
    pool->restart(ThreadPool::Options{threads, ThreadPool::Options{}.stack_bytes, {}});
  }
}

std::shared_lock<std::shared_mutex> process_pool_of(int threads) {
  if (std::unique_lock lock(process_pool_changing, std::try_to_lock); lock) set_threads(threads);
  return std::shared_lock(process_pool_changing);
}

}  // namespace fovea::python
