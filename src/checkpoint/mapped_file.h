// A file mapped read-only into memory. Another process that shortens it meanwhile ends this one: the access
// to a page that is gone raises SIGBUS, whose handler can ask here which file it was.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace fovea {

// Whether something stands at `path`, readable or not: opening it then says what is wrong.
bool path_exists(const std::filesystem::path& path);

// The path of the file that is mapped at `address`, of which the end may be cut; null when none is known.
// Does nothing that a signal handler may not do.
const char* path_mapped_at(const void* address);

class MappedFile {
 public:
  // Throws Error(not_found | io) naming the path. An empty file maps to data() == nullptr.
  static MappedFile open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

  // Brings every page into memory, front to back, on all threads; calls done(bytes so far) from the calling
  // thread.
  void read_ahead(const std::function<void(int64_t)>& done) const;
  // The process holds none of the pages from now on; touched again, they come back.
  void drop_pages() const;

 private:
  MappedFile() = default;
  const char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace fovea
