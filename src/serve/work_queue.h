// Threads for what is done with a request before the engine has it: reading bodies, fetching and decoding
// pictures. What is heavy in memory or slow in coming does not keep the rest waiting.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace fovea {

class WorkQueue {
 public:
  enum class Kind {
    light,     // at once
    fetching,  // waits for others: on half of the threads at most
    decoding,  // takes memory: on a thread of its own, and only while there is room
  };

  // So many threads, and the one that decodes.
  explicit WorkQueue(int threads);
  // What was not begun is dropped; waits for what was.
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // Work throws nothing. Any thread.
  void post(Kind kind, std::function<void()> work);
  // Whether decoding may begin.
  void set_room(bool room);
  void stop();

 private:
  struct Task {
    Kind kind;
    std::function<void()> work;
  };
  void run(bool decodes);
  bool may_begin(Kind kind, bool decodes) const;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  int fetching_ = 0, most_fetching_;
  bool room_ = true, stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace fovea
