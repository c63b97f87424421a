// A file read past the page cache, so that what was read occupies memory once and only where the reader put
// it.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/paged_memory.h"

namespace fovea {

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
