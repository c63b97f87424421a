// What does not fit into memory, on disk for the life of the process: a file without a name, which is gone
// however the process ends.
#pragma once

#include <cstdint>
#include <filesystem>

namespace fovea {

// What TMPDIR says, or /tmp. Throws Error(not_found) where that is no folder.
std::filesystem::path temporary_folder();

class ScratchFile {
 public:
  // Reserves `bytes` in `folder`, so that a full disk is noticed before the work. Throws Error: exhausted
  // when there is no room; unsupported when the folder itself lies in memory (tmpfs); not_found or io.
  ScratchFile(std::filesystem::path folder, int64_t bytes);
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile();

  // Past the page cache where the file system can: memory, offset and bytes are multiples of kDirectPage
  // (base/paged_memory.h). Throw Error(exhausted | io) naming the folder.
  void write(int64_t offset, const char* from, int64_t bytes);
  void read(int64_t offset, char* to, int64_t bytes) const;

 private:
  void reserve(int64_t bytes) const;

  std::filesystem::path folder_;
  int file_ = -1;
};

}  // namespace fovea
