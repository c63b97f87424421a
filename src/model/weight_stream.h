// Weights that do not all fit into memory: some groups stay, the others pass through two buffers, one being
// filled by a thread of its own while the other one's group computes.
#pragma once

#include <array>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "checkpoint/direct_file.h"
#include "checkpoint/weight_source.h"

namespace fovea {

// What a stream holds and has done.
struct StreamState {
  int64_t kept_bytes = 0, buffer_bytes = 0;  // in memory now
  int64_t source_bytes = 0;                  // and what the source holds
  int64_t streamed_bytes = 0;                // what one pass through the current range has to fetch
  int64_t fetched_bytes = 0;                 // since the beginning
};

class WeightStream {
 public:
  // `groups` is borrowed.
  WeightStream(const WeightGroups& groups, std::unique_ptr<WeightSource> source);
  WeightStream(const WeightStream&) = delete;
  WeightStream& operator=(const WeightStream&) = delete;
  ~WeightStream();

  // From now on the groups of `range` are used in turn, over and over; together with the buffers at most
  // `bytes` are in memory (choose_residency; `repeated` false: groups of the other range that are in memory
  // have precedence). What stays is fetched when it is first used. Throws Error(exhausted) below
  // least_residency.
  void begin(const GroupRange& range, int64_t bytes, bool repeated);

  // The memory of a group of the range, waiting for it if need be; the next one is fetched meanwhile.
  // `while_waiting`, if any, is called ten times a second, and may throw. Rethrows what the source threw.
  // One thread uses one group at a time.
  const char* acquire(int64_t group, const std::function<void()>& while_waiting);
  void release();

  WeightSource& source() { return *source_; }
  StreamState state() const;

 private:
  struct Slot {
    PagedMemory memory;
    int64_t group = -1;
    bool ready = false;
  };
  struct Job {
    int64_t group;
    char* to;
  };
  static constexpr int64_t kNone = -1;

  // All of these with the mutex held.
  bool in_range(int64_t group) const { return group >= range_.first && group < range_.last; }
  int64_t after(int64_t group) const { return group + 1 < range_.last ? group + 1 : range_.first; }
  char* find(int64_t group);
  std::optional<Job> next_job();
  void finish(const Job& job, bool complete);
  void stop_reading(std::unique_lock<std::mutex>& lock);
  void apply(const Residency& residency);

  void read();  // the thread

  const WeightGroups& groups_;
  std::unique_ptr<WeightSource> source_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  GroupRange range_;
  int64_t limit_ = 0;
  bool repeated_ = false;
  Residency residency_;
  std::vector<PagedMemory> kept_;  // of each group, empty unless it stays
  std::vector<bool> filled_;       // kept_[i] holds the group
  std::array<Slot, 2> slots_;
  int64_t current_ = 0;  // in use, or next to be
  int64_t in_use_ = kNone, fetching_ = kNone;
  int64_t fetched_bytes_ = 0;
  std::exception_ptr failure_;
  bool paused_ = true, ending_ = false;
  std::atomic<bool> abandon_{false};
  std::thread reader_;
};

}  // namespace fovea
