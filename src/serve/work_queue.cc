#include "serve/work_queue.h"

#include <algorithm>
#include <utility>

namespace fovea {

WorkQueue::WorkQueue(int threads) : most_fetching_(std::max(threads / 2, 1)) {
  threads_.emplace_back([this] { run(true); });
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { run(false); });
}

WorkQueue::~WorkQueue() { stop(); }

void WorkQueue::stop() {
  std::deque<Task> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    dropped.swap(tasks_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void WorkQueue::post(Kind kind, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return;
    tasks_.push_back({kind, std::move(work)});
  }
  changed_.notify_all();
}

void WorkQueue::set_room(bool room) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(room_, room) == room) return;
  }
  changed_.notify_all();
}

bool WorkQueue::may_begin(Kind kind, bool decodes) const {
  if (decodes) return kind == Kind::decoding && room_;
  return kind == Kind::light || (kind == Kind::fetching && fetching_ < most_fetching_);
}

void WorkQueue::run(bool decodes) {
  std::unique_lock lock(mutex_);
  while (true) {
    auto next = tasks_.end();
    changed_.wait(lock, [&] {
      next = std::ranges::find_if(tasks_, [&](const Task& task) { return may_begin(task.kind, decodes); });
      return stopped_ || next != tasks_.end();
    });
    if (stopped_) return;
    Task task = std::move(*next);
    tasks_.erase(next);
    if (task.kind == Kind::fetching) ++fetching_;
    lock.unlock();
    task.work();
    task.work = {};
    lock.lock();
    if (task.kind == Kind::fetching) --fetching_;
    changed_.notify_all();
  }
}

}  // namespace fovea
