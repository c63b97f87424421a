// What it costs to share work among threads: many short calls, as a decode step makes them, by fovea's own
// pool and, where they are installed, by OpenMP and oneTBB; in turns, so that what else the machine does
// meets all alike.
//   fork_join [--threads N] [--pieces N] [--work US] [--gap US] [--calls N] [--rounds N] [--busy N]
// --busy N: so many processes that compute without end beside it.
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/processors.h"
#include "base/thread_pool.h"

#ifdef FOVEA_BENCH_TBB
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

struct Settings {
  int threads = fovea::usable_processors().threads();
  int64_t pieces = 4, calls = 2000, rounds = 11;
  double work_us = 5, gap_us = 2;
  int busy = 0;
};

// Steps of a dependent chain in a microsecond of an undisturbed core.
double steps_per_us = 0;
uint64_t chain(int64_t steps) {
  uint64_t state = 1;
  for (int64_t i = 0; i < steps; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    __asm__ volatile("" : "+r"(state));
  }
  return state;
}
void work(double us) { chain(static_cast<int64_t>(us * steps_per_us)); }

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Contender {
  std::string name;
  std::function<void(int64_t, double)> call;  // pieces, microseconds of each
  std::vector<double> us;
};

std::vector<Contender> contenders(const Settings& s) {
  std::vector<Contender> all;
  const auto add_pool = [&](const char* name, bool bind) {
    fovea::ThreadPool::Options options;
    options.threads = s.threads;
    if (bind) options.processors = fovea::usable_processors().cores;
    auto pool = std::make_shared<fovea::ThreadPool>(options);
    all.push_back({name, [pool](int64_t n, double us) { pool->run(n, [us](int64_t) { work(us); }); }, {}});
  };
  add_pool("pool", false);
  add_pool("pool, bound", true);
#ifdef _OPENMP
  all.push_back({"OpenMP",
                 [threads = s.threads](int64_t n, double us) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
                   for (int64_t i = 0; i < n; ++i) work(us);
                 },
                 {}});
#endif
#ifdef FOVEA_BENCH_TBB
  auto arena = std::make_shared<tbb::task_arena>(s.threads);
  all.push_back({"oneTBB",
                 [arena](int64_t n, double us) {
                   arena->execute([&] {
                     tbb::parallel_for(int64_t{0}, n, [us](int64_t) { work(us); }, tbb::simple_partitioner());
                   });
                 },
                 {}});
#endif
  return all;
}

Settings read(int count, char** arguments) {
  Settings s;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i];
    const double value = std::atof(arguments[i + 1]);
    if (name == "--threads") s.threads = static_cast<int>(value);
    if (name == "--pieces") s.pieces = static_cast<int64_t>(value);
    if (name == "--calls") s.calls = static_cast<int64_t>(value);
    if (name == "--rounds") s.rounds = static_cast<int64_t>(value);
    if (name == "--work") s.work_us = value;
    if (name == "--gap") s.gap_us = value;
    if (name == "--busy") s.busy = static_cast<int>(value);
  }
  return s;
}

}  // namespace

int main(int count, char** arguments) {
  const Settings s = read(count, arguments);
  for (int probe = 0; probe < 20; ++probe) {
    const auto start = Clock::now();
    chain(1'000'000);
    steps_per_us = std::max(steps_per_us, 1e6 / us_since(start));
  }
  std::vector<pid_t> busy;
  for (int i = 0; i < s.busy; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      while (true) chain(1'000'000);
    }
    busy.push_back(child);
  }
  std::vector<Contender> all = contenders(s);
  for (int64_t round = 0; round < s.rounds; ++round) {
    for (Contender& one : all) {
      const auto start = Clock::now();
      for (int64_t call = 0; call < s.calls; ++call) {
        one.call(s.pieces, s.work_us);
        work(s.gap_us);
      }
      one.us.push_back(us_since(start) / static_cast<double>(s.calls));
    }
  }
  for (const pid_t child : busy) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  fmt::print(
      "{} threads, {} pieces of {} us, {} us between calls, {} busy processes; us a call, median and worst "
      "of {}\n",
      s.threads, s.pieces, s.work_us, s.gap_us, s.busy, s.rounds);
  for (const Contender& one : all) {
    fmt::print("{:12} {:9.2f} {:9.2f}\n", one.name, median(one.us),
               *std::max_element(one.us.begin(), one.us.end()));
  }
}
