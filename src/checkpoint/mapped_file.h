// A file mapped read-only into memory. Another process that shortens it meanwhile ends this one (SIGBUS).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

namespace fovea {

// Whether something stands at `path`, readable or not: opening it then says what is wrong.
bool path_exists(const std::filesystem::path& path);

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

 private:
  MappedFile() = default;
  const char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace fovea
