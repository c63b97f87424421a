#include "base/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <utility>

#include "base/error.h"
#include "base/processors.h"

namespace fovea {

namespace {

// Which pool's piece this thread is in, to run calls from within on it alone, and as which worker.
struct Place {
  const ThreadPool* pool = nullptr;
  int worker = 0;
};
thread_local Place place;

class InPlace {
 public:
  explicit InPlace(Place now) : before_(std::exchange(place, now)) {}
  ~InPlace() { place = before_; }
  InPlace(const InPlace&) = delete;
  InPlace& operator=(const InPlace&) = delete;

 private:
  Place before_;
};

void rest() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

// Looks at done() until it holds or the time is over. Waking a thread that sleeps takes as long as a short
// call, and what a step does on one thread between two calls takes longer than that: so a waiting thread
// looks for as long as a wake-up takes, then gives its processor to whoever wants it between two looks, and
// sleeps only when the work seems to be over.
template <typename Done>
bool soon(const Done& done) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kAlone = std::chrono::microseconds(60);
  constexpr auto kYielding = std::chrono::milliseconds(2);
  constexpr int kLooks = 16;  // between two looks at the clock
  const auto begin = Clock::now();
  for (auto waited = begin - begin; waited < kYielding; waited = Clock::now() - begin) {
    if (waited > kAlone) {
      if (done()) return true;
      sched_yield();
    } else {
      for (int i = 0; i < kLooks; ++i) {
        if (done()) return true;
        rest();
      }
    }
  }
  return done();
}

// A ticket: which call it is of, and how many of its pieces nobody has taken yet.
constexpr int kPieceBits = 24;
constexpr uint64_t kMostPieces = (uint64_t{1} << kPieceBits) - 1;

}  // namespace

// One call. A job belongs to the pool and serves call after call: a worker that comes late looks at memory
// that is there, and its attempt to take a piece fails because the ticket is another's.
struct alignas(64) ThreadPool::Job {
  std::atomic<bool> used{false};
  // Written before the ticket says that there are pieces, and read between looking at the ticket and taking
  // from it: if the ticket was the same both times, the call was under way and these were its own.
  std::atomic<Piece> piece{nullptr};
  std::atomic<const void*> body{nullptr};
  std::atomic<int64_t> end{0};
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int> unfinished{0};  // pieces that have not ended
  std::atomic<bool> awaited{false};            // the caller sleeps until there are none
  std::atomic<bool> failed{false};
  std::exception_ptr failure;  // by whoever set `failed`; read when no piece is unfinished
};

struct ThreadPool::Worker {
  ThreadPool* pool;
  int number, processor;
};

int ThreadPool::worker_of_this_thread() { return place.worker; }

ThreadPool::ThreadPool(const Options& options) : process_(getpid()), jobs_(std::make_unique<Job[]>(kJobs)) {
  restart(options);
}

void ThreadPool::restart(const Options& options) {
  if (options.threads < 1 || options.threads > kMostThreads) {
    throw Error(ErrorKind::invalid_argument, fmt::format("cannot run on {} threads", options.threads),
                fmt::format("give a number of threads (--threads) from 1 to {}", kMostThreads));
  }
  stop();
  ending_.store(false);
  process_ = getpid();
  threads_ = options.threads;
  workers_.reserve(static_cast<size_t>(threads_ - 1));
  try {
    for (int worker = 1; worker < threads_; ++worker) start(worker, options);
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::start(int worker, const Options& options) {
  const auto least = static_cast<size_t>(std::max<long>(sysconf(_SC_THREAD_STACK_MIN), PTHREAD_STACK_MIN));
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t stack = (std::max(options.stack_bytes, least) + page - 1) / page * page;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, stack);
  const bool bound = static_cast<size_t>(worker) < options.processors.size();
  auto begun = std::make_unique<Worker>(
      Worker{this, worker, bound ? options.processors[static_cast<size_t>(worker)] : -1});
  // A worker inherits the mask of its maker. What its own instructions raise stays: where that is blocked,
  // the system ends the process without asking the program's handler.
  sigset_t all, before;
  sigfillset(&all);
  for (const int own : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&all, own);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int failed = pthread_create(
      &thread, &attributes,
      [](void* of) -> void* {
        const std::unique_ptr<Worker> self(static_cast<Worker*>(of));
        if (self->processor >= 0) bind_to_processor(self->processor);
        self->pool->work(self->number);
        return nullptr;
      },
      begun.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (failed != 0) {
    throw Error(
        ErrorKind::exhausted, fmt::format("the system gives no thread number {} of {}", worker + 1, threads_),
        "run on fewer threads (--threads), or raise the limit (ulimit -u, pids.max of the control group)");
  }
  static_cast<void>(begun.release());  // the worker's now
  workers_.push_back(thread);
}

void ThreadPool::stop() {
  if (getpid() != process_) workers_.clear();  // a forked child has none of them
  ending_.store(true);
  announced_.fetch_add(1);
  announced_.notify_all();
  for (const pthread_t worker : workers_) pthread_join(worker, nullptr);
  workers_.clear();
  threads_ = 1;
}

ThreadPool::Job* ThreadPool::free_job() {
  for (int i = 0; i < kJobs; ++i) {
    if (!jobs_[i].used.load(std::memory_order_relaxed) && !jobs_[i].used.exchange(true)) return &jobs_[i];
  }
  return nullptr;
}

void ThreadPool::run_alone(int64_t first, int64_t count, Piece piece, const void* body) {
  // From within a piece its own worker's number may be in use for scratch of this call's maker: as ever, 0 is
  // the caller's in the call that it makes.
  const InPlace in({this, 0});
  for (int64_t i = first; i < first + count; ++i) piece(body, i, 0);
}

void ThreadPool::run_pieces(int64_t count, Piece piece, const void* body) {
  const bool within = place.pool == this;
  for (int64_t first = 0; first < count;) {
    const int64_t now = std::min(count - first, static_cast<int64_t>(kMostPieces));
    Job* job = now == 1 || threads_ == 1 || within ? nullptr : free_job();
    if (job == nullptr) {
      run_alone(first, now, piece, body);
    } else {
      publish(*job, first, now, piece, body);
      help(*job, 0);
      join(*job);
      std::exception_ptr failure = std::exchange(job->failure, nullptr);
      job->used.store(false, std::memory_order_release);
      if (failure) std::rethrow_exception(failure);
    }
    first += now;
  }
}

void ThreadPool::publish(Job& job, int64_t first, int64_t count, Piece piece, const void* body) {
  job.piece.store(piece, std::memory_order_relaxed);
  job.body.store(body, std::memory_order_relaxed);
  job.end.store(first + count, std::memory_order_relaxed);
  job.unfinished.store(static_cast<int>(count), std::memory_order_relaxed);
  job.awaited.store(false, std::memory_order_relaxed);
  job.failed.store(false, std::memory_order_relaxed);
  const uint64_t call = (job.ticket.load(std::memory_order_relaxed) >> kPieceBits) + 1;
  job.ticket.store(call << kPieceBits | static_cast<uint64_t>(count), std::memory_order_release);
  announced_.fetch_add(1);
  // Either this sees the sleeper, or the sleeper sees the announcement before it sleeps.
  const int sleepers = sleepers_.load();
  if (sleepers == 0) return;
  if (count - 1 >= sleepers) {
    announced_.notify_all();
  } else {
    for (int64_t i = 1; i < count; ++i) announced_.notify_one();
  }
}

// Takes pieces until none is left; whether there was one.
bool ThreadPool::help(Job& job, int worker) {
  const InPlace in({this, worker});
  int ended = 0;
  uint64_t ticket = job.ticket.load(std::memory_order_acquire);
  while ((ticket & kMostPieces) != 0) {
    const Piece piece = job.piece.load(std::memory_order_relaxed);
    const void* body = job.body.load(std::memory_order_relaxed);
    const int64_t i = job.end.load(std::memory_order_relaxed) - static_cast<int64_t>(ticket & kMostPieces);
    if (!job.ticket.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
      continue;
    }
    if (!job.failed.load(std::memory_order_relaxed)) {
      try {
        piece(body, i, worker);
      } catch (...) {
        if (!job.failed.exchange(true)) job.failure = std::current_exception();
      }
    }
    ++ended;
    ticket = job.ticket.load(std::memory_order_acquire);
  }
  if (ended == 0) return false;
  // The call cannot end before this, nor the job become another's.
  if (job.unfinished.fetch_sub(ended) == ended && job.awaited.load()) job.unfinished.notify_all();
  return true;
}

// Until the pieces that others have taken have ended.
void ThreadPool::join(Job& job) {
  if (soon([&] { return job.unfinished.load(std::memory_order_acquire) == 0; })) return;
  job.awaited.store(true);
  for (int left = job.unfinished.load(); left != 0; left = job.unfinished.load()) job.unfinished.wait(left);
}

void ThreadPool::wait_for_work(uint32_t seen) {
  if (soon([&] { return announced_.load(std::memory_order_acquire) != seen; })) return;
  sleepers_.fetch_add(1);
  announced_.wait(seen);
  sleepers_.fetch_sub(1);
}

void ThreadPool::work(int worker) {
  for (uint32_t seen = announced_.load(); !ending_.load(); seen = announced_.load()) {
    bool helped = false;
    for (int i = 0; i < kJobs; ++i) helped |= help(jobs_[i], worker);
    if (!helped) wait_for_work(seen);
  }
}

}  // namespace fovea
