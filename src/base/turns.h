// Threads that take turns: one of them at a time works, the others wait for something that happens elsewhere
// or for their turn, which comes in the order of asking.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>

namespace fovea {

class Turns {
 public:
  // Waits until it is `worker`'s turn.
  void take(int64_t worker) {
    std::unique_lock lock(mutex_);
    waiting_.push_back(worker);
    changed_.wait(lock, [&] { return holder_ == kNobody && waiting_.front() == worker; });
    waiting_.pop_front();
    holder_ = worker;
  }
  void give() {
    {
      const std::lock_guard lock(mutex_);
      holder_ = kNobody;
    }
    changed_.notify_all();
  }
  // Whose turn it is: called by that worker.
  int64_t holder() const { return holder_; }

 private:
  static constexpr int64_t kNobody = -1;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<int64_t> waiting_;
  int64_t holder_ = kNobody;
};

}  // namespace fovea
