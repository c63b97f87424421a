#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/processors.h"

namespace fovea {
namespace {

using namespace std::chrono_literals;

TEST(ThreadPool, RunsEachPieceOnceAndGivesEachThreadAPlaceOfItsOwn) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<int> times(static_cast<size_t>(count));
      std::vector<std::atomic<int>> within(static_cast<size_t>(threads));
      std::atomic<int> shared{0};
      pool.run(count, [&](int64_t i, int worker) {
        if (within[static_cast<size_t>(worker)].fetch_add(1) != 0) ++shared;
        EXPECT_EQ(ThreadPool::worker_of_this_thread(), worker);
        ++times[static_cast<size_t>(i)];
        within[static_cast<size_t>(worker)].fetch_sub(1);
      });
      EXPECT_EQ(shared, 0);
      for (const int n : times) EXPECT_EQ(n, 1);
    }
  }
}

TEST(ThreadPool, PiecesOfManyShortCallsNeverMix) {
  ThreadPool pool(4);
  for (int64_t call = 1; call <= 20'000; ++call) {
    std::atomic<int64_t> sum{0};
    const int64_t count = 1 + call % 9;
    pool.run(count, [&, call](int64_t i) { sum += call * 100 + i; });
    ASSERT_EQ(sum, count * call * 100 + count * (count - 1) / 2);
  }
}

TEST(ThreadPool, EveryThreadTakesPart) {
  ThreadPool pool(3);
  std::atomic<int> arrived{0};
  pool.run(3, [&](int64_t) {  // each piece waits until three threads are in theirs
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 3);
}

// A worker that is not scheduled: one that sits in a piece of another call.
TEST(ThreadPool, ACallDoesNotWaitForAWorkerThatIsElsewhere) {
  ThreadPool pool(2);
  std::atomic<bool> entered{false}, leave{false}, late{false};
  std::thread other([&] {
    pool.run(2, [&](int64_t) {
      entered = true;
      for (int ms = 0; !leave; ++ms) {
        std::this_thread::sleep_for(1ms);
        if (ms > 10'000) late = leave = true;
      }
    });
  });
  while (!entered) std::this_thread::yield();
  std::this_thread::sleep_for(5ms);  // both pieces are taken, by the other caller and the worker
  for (int call = 0; call < 100; ++call) {
    std::atomic<int> done{0};
    pool.run(10, [&](int64_t) { ++done; });
    ASSERT_EQ(done, 10);
  }
  EXPECT_FALSE(late) << "the calls above have waited";
  leave = true;
  other.join();
}

TEST(ThreadPool, RethrowsTheFirstExceptionAndGoesOn) {
  ThreadPool pool(3);
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> begun{0};
    try {
      pool.run(1000, [&](int64_t i) {
        ++begun;
        if (i >= 5) throw std::runtime_error("piece");
      });
      FAIL();
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "piece");
    }
    EXPECT_LT(begun, 1000) << "what was not begun is left out";
    std::atomic<int> done{0};
    pool.run(10, [&](int64_t) { ++done; });
    ASSERT_EQ(done, 10);
  }
}

TEST(ThreadPool, ACallFromWithinAPieceRunsOnItsThread) {
  ThreadPool pool(3);
  pool.run(50, [&](int64_t) {
    const std::thread::id self = std::this_thread::get_id();
    const int worker = ThreadPool::worker_of_this_thread();
    int64_t sum = 0;
    pool.run(10, [&](int64_t i, int of) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      EXPECT_EQ(of, 0);
      sum += i;
    });
    EXPECT_EQ(sum, 45);
    EXPECT_EQ(ThreadPool::worker_of_this_thread(), worker);
  });
}

TEST(ThreadPool, APieceMayCallAnotherPool) {
  ThreadPool outer(2), inner(3);
  std::atomic<int> done{0};
  outer.run(20, [&](int64_t) { inner.run(5, [&](int64_t) { ++done; }); });
  EXPECT_EQ(done, 100);
}

TEST(ThreadPool, SeveralThreadsMayCallOnePoolAtOnce) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<int> wrong{0};
  for (int64_t caller = 0; caller < 7; ++caller) {  // more than the pool helps at once
    callers.emplace_back([&, caller] {
      for (int call = 0; call < 500; ++call) {
        std::vector<int64_t> values(20);
        pool.run(20, [&](int64_t i) { values[static_cast<size_t>(i)] = i * caller; });
        if (std::accumulate(values.begin(), values.end(), int64_t{0}) != 190 * caller) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

TEST(ThreadPool, MoreThreadsThanCoresDoNotHoldEachOther) {
  ThreadPool pool(32);
  std::atomic<int64_t> sum{0};
  for (int call = 0; call < 300; ++call) pool.run(64, [&](int64_t i) { sum += i; });
  EXPECT_EQ(sum, 300 * 64 * 63 / 2);
}

TEST(ThreadPool, WorkersTakeNoSignalsAndHaveTheStackAskedFor) {
  constexpr size_t kStack = 3 << 20;  // more than any default: glibc gives the stack of an ended thread again
  ThreadPool pool({.threads = 2, .stack_bytes = kStack, .processors = {}});
  std::atomic<int> arrived{0};
  std::atomic<size_t> stack{0};
  std::atomic<bool> interrupted{true};
  pool.run(2, [&](int64_t, int worker) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
    if (worker == 0) return;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    interrupted = sigismember(&blocked, SIGINT) == 0;
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    size_t bytes = 0;
    pthread_attr_getstacksize(&attributes, &bytes);
    pthread_attr_destroy(&attributes);
    stack = bytes;
  });
  EXPECT_FALSE(interrupted);
  EXPECT_GE(stack, kStack);
}

TEST(ThreadPool, BindsOnlyWhenAskedAndNeverTheCaller) {
  const std::vector<int> cores = usable_processors().cores;
  const auto allowed = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    pthread_getaffinity_np(pthread_self(), sizeof set, &set);
    return CPU_COUNT(&set);
  };
  const int mine = allowed();
  if (cores.size() < 2) GTEST_SKIP() << "one core: there is nothing to bind to";
  for (const bool bind : {false, true}) {
    ThreadPool::Options options;
    options.threads = 2;
    if (bind) options.processors = cores;
    ThreadPool pool(options);
    std::atomic<int> arrived{0}, of_worker{0};
    pool.run(2, [&](int64_t, int worker) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
      if (worker == 1) of_worker = allowed();
    });
    EXPECT_EQ(of_worker, bind ? 1 : mine);
    EXPECT_EQ(allowed(), mine);
  }
}

TEST(ThreadPool, RestartsWithAnotherNumber) {
  ThreadPool pool(3);
  for (const int threads : {1, 4, 2}) {
    pool.restart({.threads = threads, .stack_bytes = ThreadPool::Options{}.stack_bytes, .processors = {}});
    EXPECT_EQ(pool.threads(), threads);
    std::atomic<int> arrived{0};
    pool.run(threads, [&](int64_t) {
      ++arrived;
      while (arrived < threads) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, threads);
  }
  EXPECT_THROW(pool.restart({.threads = 0, .stack_bytes = 0, .processors = {}}), Error);
  EXPECT_EQ(pool.threads(), 2);
}

TEST(ThreadPool, RefusesNumbersThatAreNone) {
  for (const int count : {0, -1, 1025}) EXPECT_THROW(ThreadPool pool(count), Error) << count;
}

#if !defined(__SANITIZE_THREAD__)  // which does not follow a fork of a process with threads
TEST(ThreadPool, GoesOnInAForkedChildWithTheCallerAlone) {
  auto pool = std::make_unique<ThreadPool>(3);
  std::atomic<int> done{0};
  pool->run(10, [&](int64_t) { ++done; });
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);
    std::atomic<int> there{0};
    pool->run(10, [&](int64_t) { ++there; });
    pool.reset();
    _exit(there == 10 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}
#endif

}  // namespace
}  // namespace fovea
