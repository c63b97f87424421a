#include "model/kv_disk.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/patient_wait.h"

namespace fovea {

std::vector<bool> layers_on_disk(const std::vector<int64_t>& layer_bytes, int64_t bytes) {
  const int64_t layers = std::ssize(layer_bytes);
  std::vector<bool> on_disk(layer_bytes.size());
  for (int64_t count = 1; count <= layers && bytes_in_memory(layer_bytes, on_disk) > bytes; ++count) {
    for (int64_t i = 0; i < layers; ++i) {
      on_disk[static_cast<size_t>(i)] = (i + 1) * count / layers > i * count / layers;
    }
  }
  return on_disk;
}

int64_t bytes_in_memory(const std::vector<int64_t>& layer_bytes, const std::vector<bool>& on_disk) {
  int64_t kept = 0, largest = 0;
  for (size_t i = 0; i < layer_bytes.size(); ++i) {
    if (on_disk[i]) {
      largest = std::max(largest, layer_bytes[i]);
    } else {
      kept += layer_bytes[i];
    }
  }
  return kept + 2 * largest;
}

KvDisk::KvDisk(const std::filesystem::path& folder, const std::vector<int64_t>& layer_bytes)
    : file_(folder, std::accumulate(layer_bytes.begin(), layer_bytes.end(), int64_t{0})) {
  int64_t place = 0, largest = 0;
  for (const int64_t bytes : layer_bytes) {
    FOVEA_CHECK(bytes % kDirectPage == 0);
    layers_.push_back({place, bytes});
    place += bytes;
    largest = std::max(largest, bytes);
  }
  for (Slot& slot : slots_) slot.memory.resize(largest);
  buffer_bytes_ = 2 * largest;
  thread_ = std::thread([this] { work(); });
}

KvDisk::~KvDisk() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

KvDisk::Slot* KvDisk::slot_of(int64_t layer) {
  const auto found =
      std::find_if(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.layer == layer; });
  return found == slots_.end() ? nullptr : &*found;
}

char* KvDisk::acquire(int64_t layer, const std::function<void()>& while_waiting) {
  std::unique_lock lock(mutex_);
  FOVEA_CHECK(in_use_ == kNone && layer >= 0 && layer < std::ssize(layers_));
  wanted_ = layer;
  changed_.notify_all();
  Slot* slot = nullptr;
  while ((slot = slot_of(layer)) == nullptr || !slot->ready || slot->dirty()) {
    if (failure_) std::rethrow_exception(failure_);
    wait_patiently(lock, changed_, while_waiting);
  }
  in_use_ = layer;
  return slot->memory.data();
}

void KvDisk::release(int64_t first, int64_t last) {
  {
    const std::lock_guard lock(mutex_);
    Slot& slot = *slot_of(in_use_);
    FOVEA_CHECK(first % kDirectPage == 0 && last % kDirectPage == 0 &&
                last <= layers_[static_cast<size_t>(in_use_)].bytes);
    slot.dirty_first = first;
    slot.dirty_last = last;
    wanted_ = (in_use_ + 1) % std::ssize(layers_);
    in_use_ = kNone;
  }
  changed_.notify_all();
}

// What is to be written goes first: nothing else frees its buffer.
bool KvDisk::next_job(Job& job) {
  if (failure_) return false;
  for (Slot& slot : slots_) {
    if (!slot.dirty()) continue;
    job = {&slot, true, slot.dirty_first, slot.dirty_last};
    return true;
  }
  return next_read(job);
}

// The layer that is wanted, or else the one after it, into a buffer that holds neither.
bool KvDisk::next_read(Job& job) {
  const int64_t after = (wanted_ + 1) % std::ssize(layers_);
  for (const int64_t layer : {wanted_, after}) {
    if (slot_of(layer) != nullptr) continue;
    for (Slot& slot : slots_) {
      if (slot.layer == wanted_ || slot.layer == after) continue;
      slot.layer = layer;
      slot.ready = false;
      job = {&slot, false, 0, layers_[static_cast<size_t>(layer)].stored};
      return true;
    }
  }
  return false;
}

void KvDisk::transfer(const Job& job, int64_t place) {
  char* memory = job.slot->memory.data() + job.first;
  if (job.writing) {
    file_.write(place + job.first, memory, job.last - job.first);
  } else {
    file_.read(place + job.first, memory, job.last - job.first);
  }
}

void KvDisk::finish(const Job& job) {
  Layer& layer = layers_[static_cast<size_t>(job.slot->layer)];
  if (job.writing) {
    job.slot->dirty_first = job.slot->dirty_last = 0;
    layer.stored = std::max(layer.stored, job.last);
    written_bytes_ += job.last - job.first;
  } else {
    job.slot->ready = true;
    read_bytes_ += job.last - job.first;
  }
}

void KvDisk::work() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    Job job{};
    if (!next_job(job)) {
      changed_.wait(lock);
      continue;
    }
    const int64_t place = layers_[static_cast<size_t>(job.slot->layer)].place;
    lock.unlock();
    std::exception_ptr failure;
    try {
      transfer(job, place);
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (failure) {
      failure_ = failure;
    } else {
      finish(job);
    }
    changed_.notify_all();
  }
}

int64_t KvDisk::read_bytes() const {
  const std::lock_guard lock(mutex_);
  return read_bytes_;
}

int64_t KvDisk::written_bytes() const {
  const std::lock_guard lock(mutex_);
  return written_bytes_;
}

}  // namespace fovea
