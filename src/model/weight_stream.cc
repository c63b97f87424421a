#include "model/weight_stream.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/patient_wait.h"

namespace fovea {

WeightStream::WeightStream(const WeightGroups& groups, std::unique_ptr<WeightSource> source)
    : groups_(groups),
      source_(std::move(source)),
      residency_{std::vector<bool>(groups.all().size()), 0, 0},
      kept_(groups.all().size()),
      filled_(groups.all().size()),
      reader_([this] { read(); }) {}

WeightStream::~WeightStream() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    abandon_ = true;
  }
  changed_.notify_all();
  reader_.join();
}

// Afterwards the reader waits until paused_ is false again.
void WeightStream::stop_reading(std::unique_lock<std::mutex>& lock) {
  paused_ = true;
  abandon_ = true;
  changed_.wait(lock, [this] { return fetching_ == kNone; });
  abandon_ = false;
}

void WeightStream::begin(const GroupRange& range, int64_t bytes, bool repeated) {
  std::unique_lock lock(mutex_);
  if (range == range_ && bytes == limit_ && repeated == repeated_ && !failure_) return;
  if (bytes < least_residency(groups_, range)) {
    throw Error(ErrorKind::exhausted,
                fmt::format("{} bytes of weights do not hold the {} of two groups", bytes,
                            least_residency(groups_, range)),
                "raise --ram, or ask for less (fovea plan)");
  }
  FOVEA_CHECK(in_use_ == kNone);
  stop_reading(lock);
  range_ = {};  // in case there is no memory
  apply(choose_residency(groups_, range, filled_, bytes, repeated));
  range_ = range;
  limit_ = bytes;
  repeated_ = repeated;
  failure_ = nullptr;
  current_ = range.first;
  paused_ = false;
}

// What goes is freed before what comes is allocated.
void WeightStream::apply(const Residency& residency) {
  const bool resize = residency.slot_bytes != residency_.slot_bytes;
  residency_ = residency;
  for (size_t g = 0; g < kept_.size(); ++g) {
    if (residency.kept[g]) continue;
    kept_[g].resize(0);
    filled_[g] = false;
  }
  for (Slot& slot : slots_) {
    slot.group = kNone;
    slot.ready = false;
    if (resize) slot.memory.resize(0);
  }
  for (Slot& slot : slots_) {
    if (resize) slot.memory.resize(residency.slot_bytes);
  }
}

char* WeightStream::find(int64_t group) {
  if (filled_[static_cast<size_t>(group)]) return kept_[static_cast<size_t>(group)].data();
  for (Slot& slot : slots_) {
    if (slot.group == group && slot.ready) return slot.memory.data();
  }
  return nullptr;
}

const char* WeightStream::acquire(int64_t group, const std::function<void()>& while_waiting) {
  std::unique_lock lock(mutex_);
  FOVEA_CHECK(in_range(group) && in_use_ == kNone);
  if (find(group) == nullptr && fetching_ != group && current_ != group) {
    // Not the order that was expected: what was read ahead is not what comes next.
    stop_reading(lock);
    for (Slot& slot : slots_) slot.group = kNone;
    paused_ = false;
  }
  current_ = group;
  changed_.notify_all();
  char* memory = nullptr;
  while ((memory = find(group)) == nullptr) {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    wait_patiently(lock, changed_, while_waiting);
  }
  in_use_ = group;
  return memory;
}

void WeightStream::release() {
  const std::lock_guard lock(mutex_);
  if (in_use_ == kNone) return;
  for (Slot& slot : slots_) {
    if (slot.group == in_use_) slot.group = kNone;
  }
  current_ = after(in_use_);
  in_use_ = kNone;
  changed_.notify_all();
}

// The first group from the current one on that is not in memory, if there is a place for it.
std::optional<WeightStream::Job> WeightStream::next_job() {
  if (paused_ || failure_) return std::nullopt;
  int64_t group = current_;
  for (int64_t i = range_.first; i < range_.last; ++i, group = after(group)) {
    if (find(group) != nullptr) continue;
    PagedMemory& own = kept_[static_cast<size_t>(group)];
    if (residency_.kept[static_cast<size_t>(group)]) {
      if (own.empty()) own.resize(groups_[group].bytes);
      return Job{group, own.data()};
    }
    for (Slot& slot : slots_) {
      if (slot.group != kNone) continue;
      slot.group = group;
      slot.ready = false;
      return Job{group, slot.memory.data()};
    }
    return std::nullopt;
  }
  return std::nullopt;
}

void WeightStream::finish(const Job& job, bool complete) {
  fetching_ = kNone;
  if (complete) fetched_bytes_ += groups_[job.group].bytes;
  if (residency_.kept[static_cast<size_t>(job.group)]) filled_[static_cast<size_t>(job.group)] = complete;
  for (Slot& slot : slots_) {
    if (slot.group != job.group) continue;
    slot.ready = complete;
    if (!complete) slot.group = kNone;
  }
}

void WeightStream::read() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    bool complete = false;
    std::optional<Job> job;
    try {
      job = next_job();
      if (!job) {
        changed_.wait(lock);
        continue;
      }
      fetching_ = job->group;
      lock.unlock();
      source_->fetch(groups_[job->group], job->to, abandon_);
      lock.lock();
      complete = !abandon_;
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      failure_ = std::current_exception();
    }
    if (job) finish(*job, complete);
    changed_.notify_all();
  }
}

StreamState WeightStream::state() const {
  const std::lock_guard lock(mutex_);
  StreamState state;
  state.buffer_bytes = 2 * residency_.slot_bytes;
  state.fetched_bytes = fetched_bytes_;
  state.source_bytes = source_->resident_bytes();
  for (int64_t g = 0; g < std::ssize(groups_.all()); ++g) {
    if (filled_[static_cast<size_t>(g)]) state.kept_bytes += groups_[g].bytes;
    if (in_range(g) && !residency_.kept[static_cast<size_t>(g)]) state.streamed_bytes += groups_[g].bytes;
  }
  return state;
}

}  // namespace fovea
