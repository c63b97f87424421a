#include "base/scratch_file.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/output_file.h"
#include "base/paged_memory.h"

namespace fovea {

namespace {

bool in_memory(const std::filesystem::path& folder) {
  constexpr uint32_t kTmpfs = 0x01021994, kRamfs = 0x858458f6;  // of statfs(2)
  struct statfs status {};
  if (::statfs(folder.c_str(), &status) != 0) return false;
  const auto type = static_cast<uint32_t>(status.f_type);
  return type == kTmpfs || type == kRamfs;
}

// Without a name from the beginning, or, where the file system cannot, from the next moment on.
int open_nameless(const std::filesystem::path& folder) {
  int file = -1;
  for (const int direct : {O_DIRECT, 0}) {
    file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | direct, 0600);
    if (file >= 0 || (errno != EINVAL && errno != EOPNOTSUPP && errno != EISDIR)) return file;
  }
  for (const int direct : {O_DIRECT, 0}) {
    std::string name = (folder / "fovea-XXXXXX").string();
    file = ::mkostemp(name.data(), O_CLOEXEC | direct);
    const int reason = errno;
    if (file >= 0) ::unlink(name.c_str());
    errno = reason;
    if (file >= 0 || errno != EINVAL) return file;
  }
  return file;
}

}  // namespace

std::filesystem::path temporary_folder() {
  std::error_code failure;
  std::filesystem::path folder = std::filesystem::temp_directory_path(failure);
  if (!failure) return folder;
  throw Error(ErrorKind::not_found, "TMPDIR in the environment names no folder",
              "set it to a folder that can be written to, or unset it");
}

ScratchFile::ScratchFile(std::filesystem::path folder, int64_t bytes) : folder_(std::move(folder)) {
  if (in_memory(folder_)) {
    throw Error(ErrorKind::unsupported,
                fmt::format("{} lies in memory (tmpfs): what is written there saves none", folder_.string()),
                "name a folder on a disk (--kv-offload-dir)");
  }
  file_ = open_nameless(folder_);
  if (file_ < 0) fail_to_write("create a temporary file in", folder_, errno);
  try {
    reserve(bytes);
  } catch (...) {
    ::close(file_);
    throw;
  }
}

ScratchFile::~ScratchFile() { ::close(file_); }

void ScratchFile::reserve(int64_t bytes) const {
  int failed = 0;
  do {
    failed = bytes > 0 ? ::fallocate(file_, 0, 0, bytes) : 0;
  } while (failed != 0 && errno == EINTR);
  if (failed == 0 || errno == EOPNOTSUPP || errno == ENOSYS) return;
  fail_to_write("reserve space for a temporary file in", folder_, errno);
}

void ScratchFile::write(int64_t offset, const char* from, int64_t bytes) {
  while (bytes > 0) {
    const ssize_t written = ::pwrite(file_, from, static_cast<size_t>(bytes), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_to_write("write a temporary file in", folder_, written < 0 ? errno : EIO);
    from += written;
    offset += written;
    bytes -= written;
  }
}

void ScratchFile::read(int64_t offset, char* to, int64_t bytes) const {
  while (bytes > 0) {
    const ssize_t got = ::pread(file_, to, static_cast<size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw Error(ErrorKind::io,
                  fmt::format("cannot read a temporary file in {}: {}", folder_.string(),
                              got < 0 ? std::strerror(errno) : "it became shorter"),
                  "check the disk (dmesg says more), or name a folder on another one");
    }
    to += got;
    offset += got;
    bytes -= got;
  }
}

}  // namespace fovea
