// Threads that share the pieces of one computation: a value, of which a process may hold several.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <type_traits>
#include <vector>

namespace fovea {

// No setting of the process is touched, no thread is bound to a core unless asked for, and the workers leave
// all signals but those that their own instructions raise to the program's own threads. Whoever calls run()
// takes part in its work, so that a pool of n threads has n - 1 workers. Several threads may call run() at
// once: each does its own pieces, and workers help where there are some. A call from within a piece runs on
// the calling thread alone.
//
// run() waits for pieces, never for a worker: one that the system has not scheduled has taken no piece, and
// the others do them all. Who has nothing to do looks for work, after some dozen microseconds yielding to
// whoever wants its processor, and sleeps after two milliseconds: longer than the next call of a forward pass
// is away.
//
// In a forked child the workers are missing; the pool goes on with the calling thread.
class ThreadPool {
 public:
  static constexpr int kMostThreads = 1024;

  struct Options {
    int threads = 1;                 // the calling one among them
    size_t stack_bytes = 256 << 10;  // of a worker; at least what the system demands
    std::vector<int> processors;     // worker w is bound to the logical CPU processors[w]; empty: none is
  };

  // Throws Error(invalid_argument) unless 1 <= threads <= kMostThreads, Error(exhausted) when the system
  // gives no more threads.
  explicit ThreadPool(const Options& options);
  explicit ThreadPool(int threads) : ThreadPool(Options{threads, Options{}.stack_bytes, {}}) {}
  // Not while a call runs.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }
  // As newly made, for those who hold a reference to it. Not while a call runs. Throws as the constructor
  // does; then the pool goes on with the calling thread alone.
  void restart(const Options& options);

  // Runs body(i), or body(i, worker), for i in [0, count), each exactly once; pieces are taken one by one, in
  // ascending order, as threads become free. `worker` in [0, threads()) is no other thread's at this time in
  // this call: the place of its scratch. The first exception is rethrown when all pieces that were begun have
  // ended; those not begun are left out.
  template <typename Body>
  void run(int64_t count, const Body& body) {
    run_pieces(
        count,
        [](const void* of, int64_t i, int worker) {
          if constexpr (std::is_invocable_v<const Body&, int64_t, int>) {
            (*static_cast<const Body*>(of))(i, worker);
          } else {
            (*static_cast<const Body*>(of))(i);
          }
        },
        &body);
  }

  // Of the piece that the calling thread is in, 0 outside of all.
  static int worker_of_this_thread();

 private:
  using Piece = void (*)(const void* body, int64_t i, int worker);
  struct Job;
  struct Worker;
  static constexpr int kJobs = 4;  // calls at once that workers help; further ones run alone

  void run_pieces(int64_t count, Piece piece, const void* body);
  void run_alone(int64_t first, int64_t count, Piece piece, const void* body);
  Job* free_job();
  void publish(Job& job, int64_t first, int64_t count, Piece piece, const void* body);
  bool help(Job& job, int worker);
  void join(Job& job);
  void work(int worker);
  void wait_for_work(uint32_t seen);
  void start(int worker, const Options& options);
  void stop();

  int threads_ = 1;
  pid_t process_;
  std::unique_ptr<Job[]> jobs_;
  alignas(64) std::atomic<uint32_t> announced_{0};  // calls published so far, and one more to end
  std::atomic<int> sleepers_{0};
  std::atomic<bool> ending_{false};
  std::vector<pthread_t> workers_;
};

}  // namespace fovea
