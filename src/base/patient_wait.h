// Waiting for another thread without being deaf to the user.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

namespace fovea {

// Waits until `changed` is signalled, or a tenth of a second, after which `while_waiting`, if any, is called
// without the lock; it may throw.
inline void wait_patiently(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                           const std::function<void()>& while_waiting) {
  const auto signalled = changed.wait_for(lock, std::chrono::milliseconds(100));
  if (signalled == std::cv_status::no_timeout || !while_waiting) return;
  lock.unlock();
  while_waiting();
  lock.lock();
}

}  // namespace fovea
