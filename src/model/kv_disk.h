// Keys and values that do not stay in memory: layers on disk, which pass through two buffers in the order of
// the layers, over and over. While one computes, a thread writes what the one before it has added and reads
// the next.
#pragma once

#include <array>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/paged_memory.h"
#include "base/scratch_file.h"

namespace fovea {

// How much memory keys and values may take, and where the rest goes.
struct KvOffload {
  std::filesystem::path folder;
  int64_t bytes = 0;  // of a cache in memory, buffers included; what that needs in any case may be more
};

// Which layers, of these sizes, go to disk so that the others and two buffers take at most `bytes`: as few as
// can be, spread evenly, so that reading and computing alternate. All of them where even that is more.
std::vector<bool> layers_on_disk(const std::vector<int64_t>& layer_bytes, int64_t bytes);
// What they take in memory then.
int64_t bytes_in_memory(const std::vector<int64_t>& layer_bytes, const std::vector<bool>& on_disk);

class KvDisk {
 public:
  // Layers of these sizes, multiples of kDirectPage; room for all is reserved. Throws as ScratchFile does.
  KvDisk(const std::filesystem::path& folder, const std::vector<int64_t>& layer_bytes);
  KvDisk(const KvDisk&) = delete;
  KvDisk& operator=(const KvDisk&) = delete;
  ~KvDisk();

  // The layer's memory with what was written of it, waiting if need be. `while_waiting`, if any, is called
  // ten times a second, and may throw. One layer at a time. Throws Error(exhausted | io) naming the folder,
  // also for what was to be written earlier.
  char* acquire(int64_t layer, const std::function<void()>& while_waiting);
  // What lies in [first, last) of the acquired layer, multiples of kDirectPage, has changed.
  void release(int64_t first, int64_t last);

  int64_t buffer_bytes() const { return buffer_bytes_; }
  int64_t read_bytes() const;
  int64_t written_bytes() const;

 private:
  static constexpr int64_t kNone = -1;
  struct Layer {
    int64_t place, bytes;  // in the file
    int64_t stored = 0;    // bytes from its beginning on that were written
  };
  struct Slot {
    PagedMemory memory;
    int64_t layer = kNone;
    bool ready = false;
    int64_t dirty_first = 0, dirty_last = 0;  // to be written

    bool dirty() const { return dirty_first != dirty_last; }
  };
  struct Job {
    Slot* slot;
    bool writing;
    int64_t first, last;
  };

  // With the mutex held.
  Slot* slot_of(int64_t layer);
  bool next_job(Job& job);
  bool next_read(Job& job);
  void finish(const Job& job);

  void work();  // the thread
  void transfer(const Job& job, int64_t place);

  ScratchFile file_;
  std::vector<Layer> layers_;
  std::array<Slot, 2> slots_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int64_t wanted_ = 0;  // in use, or next to be
  int64_t in_use_ = kNone;
  int64_t buffer_bytes_ = 0, read_bytes_ = 0, written_bytes_ = 0;
  std::exception_ptr failure_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace fovea
