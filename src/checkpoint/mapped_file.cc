#include "checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"

namespace fovea {
namespace {

constexpr int64_t kPage = 4096;                  // no page of a supported machine is smaller
constexpr int64_t kPiece = int64_t{4} << 20;     // one worker's share, large enough for the disk to stream
constexpr int64_t kStretch = int64_t{64} << 20;  // between two reports of progress

// Faults the pages of [begin, begin + bytes) in; begin is page aligned.
void touch(const char* begin, int64_t bytes) {
#ifdef MADV_POPULATE_READ
  // One call instead of a fault every 64 KiB; Linux before 5.14 answers EINVAL and the loop below does it.
  if (madvise(const_cast<char*>(begin), static_cast<size_t>(bytes), MADV_POPULATE_READ) == 0) return;
#endif
  for (int64_t at = 0; at < bytes; at += kPage) {
    static_cast<void>(*static_cast<const volatile char*>(begin + at));
  }
}

// What is mapped where, in a form that a signal handler may read. Of more files than places some go without.
struct Mapping {
  std::atomic<bool> taken{false};
  std::atomic<const char*> begin{nullptr};  // null: not to be read
  int64_t bytes = 0;
  std::array<char, 512> path{};
};
std::array<Mapping, 512> mappings;

void note_mapping(const char* begin, int64_t bytes, const std::string& path) {
  for (Mapping& mapping : mappings) {
    if (mapping.taken.exchange(true)) continue;
    mapping.bytes = bytes;
    mapping.path.fill('\0');
    std::copy_n(path.data(), std::min(path.size(), mapping.path.size() - 1), mapping.path.data());
    mapping.begin = begin;
    return;
  }
}

void forget_mapping(const char* begin) {
  for (Mapping& mapping : mappings) {
    if (mapping.begin != begin) continue;
    mapping.begin = nullptr;
    mapping.taken = false;
  }
}

}  // namespace

const char* path_mapped_at(const void* address) {
  const auto* at = static_cast<const char*>(address);
  for (const Mapping& mapping : mappings) {
    const char* begin = mapping.begin;
    if (begin != nullptr && at >= begin && at < begin + mapping.bytes) return mapping.path.data();
  }
  return nullptr;
}

bool path_exists(const std::filesystem::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

MappedFile MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: a named pipe must be refused below, not waited for.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    const int reason = errno;
    throw Error(reason == ENOENT ? ErrorKind::not_found : ErrorKind::io,
                fmt::format("cannot open {}: {}", path.string(), std::strerror(reason)),
                "check the path and its permissions");
  }
  struct stat status {};
  const bool regular = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  MappedFile mapped;
  void* address = nullptr;
  int reason = 0;
  if (regular && status.st_size > 0) {
    address = ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, file, 0);
    reason = errno;
  }
  ::close(file);
  if (!regular) {
    throw Error(ErrorKind::io, fmt::format("{} is not a regular file", path.string()),
                "give a file, not a folder");
  }
  if (address == MAP_FAILED) {
    throw Error(ErrorKind::io, fmt::format("cannot map {}: {}", path.string(), std::strerror(reason)),
                "check the limits on virtual memory (ulimit -v)");
  }
  mapped.data_ = static_cast<const char*>(address);
  mapped.bytes_ = status.st_size;
  if (address != nullptr) note_mapping(mapped.data_, mapped.bytes_, path.string());
  return mapped;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  forget_mapping(data_);
  ::munmap(const_cast<char*>(data_), static_cast<size_t>(bytes_));
}

void MappedFile::drop_pages() const {
  if (data_ != nullptr) ::madvise(const_cast<char*>(data_), static_cast<size_t>(bytes_), MADV_DONTNEED);
}

void MappedFile::read_ahead(const std::function<void(int64_t)>& done) const {
  for (int64_t start = 0; start < bytes_; start += kStretch) {
    const int64_t end = std::min(start + kStretch, bytes_);
    // The kernel starts on the stretch after this one while this one is being touched. Only advice: no check.
    const int64_t advised = start == 0 ? 0 : end;
    const int64_t advised_end = std::min(end + kStretch, bytes_);
    if (advised < advised_end) {
      ::madvise(const_cast<char*>(data_ + advised), static_cast<size_t>(advised_end - advised),
                MADV_WILLNEED);
    }
    parallel_for((end - start + kPiece - 1) / kPiece, [&](int64_t piece) {
      const int64_t at = start + piece * kPiece;
      touch(data_ + at, std::min(kPiece, end - at));
    });
    done(end);
  }
}

}  // namespace fovea
