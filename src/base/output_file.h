// A file that appears under its name only when it is complete.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace fovea {

// Throws Error for a failed write of `path`, `reason` being an errno: exhausted when the disk, a quota or the
// largest size of a file is reached, io otherwise.
[[noreturn]] void fail_to_write(const char* action, const std::filesystem::path& path, int reason);

// Opens `path`, making it where it is missing, and locks it as long as it is open; a link is not followed.
// Throws Error(invalid_argument), "another process is writing <written>", when one has it open like this.
// Where the file system has no locks, two writers are the callers' affair.
int open_locked(const std::filesystem::path& path, int access, const std::filesystem::path& written);

// Writes to "<path>.partial"; finish() moves it to `path` (a link's target). Without finish() the partial
// file is removed. A device or a pipe is never replaced but written to. Every failure throws as
// fail_to_write does; Error(invalid_argument) says that another process is writing the same file.
class OutputFile {
 public:
  // `expected_bytes`, when known, is reserved at once, so that a full disk is noticed before the work.
  explicit OutputFile(std::filesystem::path path, int64_t expected_bytes = 0);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void append(const void* data, int64_t bytes);
  void append(std::string_view text) { append(text.data(), static_cast<int64_t>(text.size())); }
  void finish();

 private:
  [[noreturn]] void fail(const char* action, int reason) const { fail_to_write(action, path_, reason); }

  std::filesystem::path path_, partial_;  // partial_ is empty for a device
  int file_ = -1;
};

}  // namespace fovea
