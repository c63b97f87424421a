// Memory for reading and writing files past the page cache.
#pragma once

#include <cstdint>

#include "base/buffer.h"

namespace fovea {

// What O_DIRECT wants offsets, sizes and addresses to be multiples of, on every common device.
inline constexpr int64_t kDirectPage = 4096;

inline int64_t page_floor(int64_t bytes) { return bytes / kDirectPage * kDirectPage; }
inline int64_t page_ceil(int64_t bytes) { return page_floor(bytes + kDirectPage - 1); }

// Memory that begins on such a page.
class PagedMemory {
 public:
  // Contents are lost; 0 frees.
  void resize(int64_t bytes) { memory_.resize(bytes == 0 ? 0 : bytes + kDirectPage); }
  bool empty() const { return memory_.size() == 0; }
  char* data() {
    const auto address = reinterpret_cast<intptr_t>(memory_.data());
    return memory_.data() + (page_ceil(address) - address);
  }

 private:
  Buffer<char> memory_;
};

}  // namespace fovea
