// A file read past the page cache, so that what was read occupies memory once and only where the reader put
// it.
#pragma once

#include <cstdint>
#include <filesystem>

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

class DirectFile {
 public:
  // Throws Error(not_found | io) naming the path.
  static DirectFile open(const std::filesystem::path& path);

  DirectFile(DirectFile&& other) noexcept;
  DirectFile& operator=(DirectFile&& other) noexcept;
  ~DirectFile();

  // Reads the whole pages around bytes [offset, offset + bytes), so that the first of these bytes comes to
  // lie at `to` + offset % kDirectPage; `to` begins a page. Throws Error(io) naming the file when it ends
  // before, or cannot be read. May be called from several threads.
  void read(int64_t offset, int64_t bytes, char* to) const;

 private:
  DirectFile(std::filesystem::path path, int file, bool direct)
      : path_(std::move(path)), file_(file), direct_(direct) {}

  std::filesystem::path path_;
  int file_ = -1;
  bool direct_ = true;  // false: the file system has only a page cache
};

}  // namespace fovea
