#include "base/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace fovea {

void fail_to_write(const char* action, const std::filesystem::path& path, int reason) {
  const bool full = reason == ENOSPC || reason == EDQUOT || reason == EFBIG;
  throw Error(full ? ErrorKind::exhausted : ErrorKind::io,
              fmt::format("cannot {} {}: {}", action, path.string(), std::strerror(reason)),
              full ? "free disk space, or write to another disk" : "check the folder and its permissions");
}

OutputFile::OutputFile(std::filesystem::path path, int64_t expected_bytes) : path_(std::move(path)) {
  std::error_code unknown;
  const auto kind = std::filesystem::status(path_, unknown).type();
  if (kind == std::filesystem::file_type::directory) fail("write", EISDIR);
  if (kind == std::filesystem::file_type::character || kind == std::filesystem::file_type::fifo) {
    file_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file_ < 0) fail("open", errno);
    return;
  }
  if (std::filesystem::is_symlink(path_, unknown)) {
    const auto target = std::filesystem::canonical(path_, unknown);
    if (!unknown) path_ = target;
  }
  partial_ = path_.string() + ".partial";
  file_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) fail("create", errno);
  if (expected_bytes <= 0) return;
  // Not posix_fallocate: where the file system cannot reserve, that one writes zeros instead.
  int reason = 0;
  while (::fallocate(file_, FALLOC_FL_KEEP_SIZE, 0, expected_bytes) != 0) {
    reason = errno;
    if (reason != EINTR) break;
    reason = 0;
  }
  if (reason != 0 && reason != EOPNOTSUPP && reason != ENOSYS && reason != EINVAL) {
    ::close(file_);
    ::unlink(partial_.c_str());
    fail("reserve space for", reason);
  }
}

OutputFile::~OutputFile() {
  if (file_ < 0) return;
  ::close(file_);
  if (!partial_.empty()) ::unlink(partial_.c_str());
}

void OutputFile::append(const void* data, int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto piece = static_cast<size_t>(std::min<int64_t>(bytes, int64_t{64} << 20));
    const ssize_t written = ::write(file_, next, piece);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("write", written < 0 ? errno : EIO);
    next += written;
    bytes -= written;
  }
}

void OutputFile::finish() {
  FOVEA_CHECK(file_ >= 0);
  // Without fsync a crash after the rename could leave the name on an empty file.
  if (!partial_.empty() && ::fsync(file_) != 0) fail("write", errno);
  const int closed = ::close(file_);
  const int reason = errno;
  file_ = -1;
  if (partial_.empty()) {
    if (closed != 0) fail("write", reason);
    return;
  }
  if (closed != 0 || std::rename(partial_.c_str(), path_.c_str()) != 0) {
    const int why = closed != 0 ? reason : errno;
    ::unlink(partial_.c_str());
    fail("write", why);
  }
}

}  // namespace fovea
