#include "base/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
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

namespace {

// Whether the open file is still the one of that name: who held the lock before may have moved or removed it.
bool is_named(int file, const std::filesystem::path& path) {
  struct stat here {};
  struct stat there {};
  return ::fstat(file, &here) == 0 && ::stat(path.c_str(), &there) == 0 && here.st_dev == there.st_dev &&
         here.st_ino == there.st_ino;
}

}  // namespace

int open_locked(const std::filesystem::path& path, int access, const std::filesystem::path& written) {
  int file = -1;
  do {
    if (file >= 0) ::close(file);
    file = ::open(path.c_str(), access | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file < 0) fail_to_write("create", path, errno);
    if (::flock(file, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) continue;
    ::close(file);
    throw Error(ErrorKind::invalid_argument, fmt::format("another process is writing {}", written.string()),
                "wait until it has ended, or give another name");
  } while (!is_named(file, path));
  return file;
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
  file_ = open_locked(partial_, O_WRONLY, path_);
  int reason = ::ftruncate(file_, 0) == 0 ? 0 : errno;
  // Not posix_fallocate: where the file system cannot reserve, that one writes zeros instead.
  while (reason == 0 && expected_bytes > 0 &&
         ::fallocate(file_, FALLOC_FL_KEEP_SIZE, 0, expected_bytes) != 0) {
    if (errno != EINTR) reason = errno;
  }
  if (reason != 0 && reason != EOPNOTSUPP && reason != ENOSYS && reason != EINVAL) {
    ::unlink(partial_.c_str());
    ::close(file_);
    fail("reserve space for", reason);
  }
}

OutputFile::~OutputFile() {
  if (file_ < 0) return;
  if (!partial_.empty())
    ::unlink(partial_.c_str());  // while the lock is held: afterwards it may be another's
  ::close(file_);
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
  if (!partial_.empty()) {
    // Without fsync a crash after the rename could leave the name on an empty file.
    if (::fsync(file_) != 0 || std::rename(partial_.c_str(), path_.c_str()) != 0) fail("write", errno);
    partial_.clear();
  }
  const int closed = ::close(file_);
  file_ = -1;
  if (closed != 0) fail("write", errno);
}

}  // namespace fovea
