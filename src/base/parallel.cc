#include "base/parallel.h"

#include <charconv>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/processors.h"

namespace fovea {

namespace {

const Processors& processors() {
  static const Processors found = usable_processors();
  return found;
}

int default_threads() {
  const char* variable = std::getenv("OMP_NUM_THREADS");
  if (variable == nullptr || *variable == '\0') return processors().threads();
  // A list, a number for each level of nesting, is refused, too: there is one level here.
  const std::string_view text = variable;
  int count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc() || end != text.data() + text.size() || count < 1 ||
      count > ThreadPool::kMostThreads) {
    throw Error(
        ErrorKind::invalid_argument,
        fmt::format("OMP_NUM_THREADS={} in the environment is no number of threads", text.substr(0, 60)),
        fmt::format("set it to one number from 1 to {}, or unset it", ThreadPool::kMostThreads));
  }
  return count;
}

// The pool is made when work comes, so that a program may choose before. Never destroyed at the end: threads
// of the program's own may still compute.
std::mutex changing;
std::atomic<ThreadPool*> made{nullptr};
ThreadPool::Options wanted{0, ThreadPool::Options{}.stack_bytes, {}};  // 0 threads: nobody has said yet

int wanted_threads() {
  if (wanted.threads == 0) wanted.threads = default_threads();
  return wanted.threads;
}

void want(int count, const std::vector<int>& processors) {
  if (count < 1 || count > ThreadPool::kMostThreads) ThreadPool refused(count);  // throws
  if (wanted.threads == count && wanted.processors == processors) return;
  wanted.threads = count;
  wanted.processors = processors;
  if (made.load() != nullptr) made.load()->restart(wanted);
}

}  // namespace

ThreadPool& process_threads() {
  ThreadPool* pool = made.load(std::memory_order_acquire);
  if (pool != nullptr) return *pool;
  const std::lock_guard lock(changing);
  if (made.load() == nullptr) {
    wanted_threads();
    made.store(new ThreadPool(wanted));
  }
  return *made.load();
}

int threads() {
  const ThreadPool* pool = made.load(std::memory_order_acquire);
  if (pool != nullptr) return pool->threads();
  const std::lock_guard lock(changing);
  return wanted_threads();
}

void set_threads(int count) {
  const std::lock_guard lock(changing);
  want(count, count == wanted.threads ? wanted.processors : std::vector<int>{});
}

void set_default_threads() { set_threads(default_threads()); }

void start_threads(int count) {
  if (count != 0) set_threads(count);
  for (const char* name : {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}) {
    if (std::getenv(name) != nullptr) return;
  }
  const std::vector<int>& cores = processors().cores;
  if (threads() == 1 || std::ssize(cores) != threads()) return;
  const std::lock_guard lock(changing);
  want(wanted.threads, cores);
}

}  // namespace fovea
