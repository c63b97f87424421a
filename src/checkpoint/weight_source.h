// Where weights come from that are not in memory. A disk is one such place, other processes are another.
#pragma once

#include <atomic>
#include <memory>

#include "checkpoint/weight_groups.h"

namespace fovea {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // Brings a group to memory: each part to its place from `to` on, which begins a page (direct_file.h) and
  // has room for group.bytes. Returns early, with nothing of use in memory, once `abandon` is true. One
  // thread at a time calls it, and it is not the one that computes. Throws Error naming what could not be
  // read.
  virtual void fetch(const WeightGroup& group, char* to, const std::atomic<bool>& abandon) = 0;

  // Bytes [first, first + count) of a tensor, at once. May be called while another thread fetches.
  virtual void read(const TensorInfo& tensor, int64_t first, int64_t count, char* to) = 0;

  // What the source itself keeps in memory.
  virtual int64_t resident_bytes() const { return 0; }
};

// The checkpoint's own files, read past the page cache.
std::unique_ptr<WeightSource> disk_weights(const Checkpoint& checkpoint);

}  // namespace fovea
