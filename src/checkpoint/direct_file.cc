#include "checkpoint/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace fovea {

DirectFile DirectFile::open(const std::filesystem::path& path) {
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  const bool direct = file >= 0;
  if (!direct && errno == EINVAL) file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);  // tmpfs, for one
  if (file < 0) {
    const int reason = errno;
    throw Error(reason == ENOENT ? ErrorKind::not_found : ErrorKind::io,
                fmt::format("cannot open {}: {}", path.string(), std::strerror(reason)),
                "check the path and its permissions");
  }
  return {path, file, direct};
}

DirectFile::DirectFile(DirectFile&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), direct_(other.direct_) {}

DirectFile& DirectFile::operator=(DirectFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(direct_, other.direct_);
  return *this;
}

DirectFile::~DirectFile() {
  if (file_ >= 0) ::close(file_);
}

void DirectFile::read(int64_t offset, int64_t bytes, char* to) const {
  const int64_t first = page_floor(offset), wanted = offset + bytes, end = page_ceil(wanted);
  int64_t at = first;
  while (at < wanted) {
    const ssize_t got = ::pread(file_, to + (at - first), static_cast<size_t>(end - at), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw Error(ErrorKind::io,
                  fmt::format("cannot read {} at byte {}: {}", path_.string(), at, std::strerror(errno)),
                  "check the disk (dmesg says more), then copy or download the file again");
    }
    if (got == 0 || (at + got < wanted && got % kDirectPage != 0)) {
      struct stat status {};
      ::fstat(file_, &status);
      throw Error(
          ErrorKind::io,
          fmt::format("{} has {} bytes, but a weight reaches byte {}: it became shorter while it was in use",
                      path_.string(), status.st_size, wanted),
          "write or download the file again, and leave it alone while the model runs");
    }
    at += got;
  }
  // Without direct reading the cache must not grow by what the reader has its own copy of; only advice.
  if (!direct_) ::posix_fadvise(file_, first, end - first, POSIX_FADV_DONTNEED);
}

}  // namespace fovea
