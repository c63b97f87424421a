#include "base/output_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "base/error.h"
#include "base/output_file.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLockText =
    "fovea is writing the folder beside this file, or was ended while it did.\n";

fs::path beside(const fs::path& dir, const char* ending) { return dir.string() + ending; }

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

bool holds_something(const fs::path& dir) {
  std::error_code ignored;
  return is_there(dir) && !(fs::is_directory(dir, ignored) && fs::is_empty(dir, ignored));
}

[[noreturn]] void refuse(std::string message, std::string remedy) {
  throw Error(ErrorKind::invalid_argument, std::move(message), std::move(remedy));
}

// Where `dir` really is, so that it and what stands beside it are on one file system.
fs::path real_place(const fs::path& dir) {
  if (dir.empty()) refuse("the folder to write has no name", "name one with --out");
  std::error_code failure;
  fs::path place = fs::weakly_canonical(fs::absolute(dir), failure);
  if (failure) fail_to_write("create the folder", dir, failure.value());
  if (!place.has_filename()) place = place.parent_path();
  if (fs::is_symlink(place, failure)) {
    refuse(fmt::format("{} is a link to a folder that does not exist", dir.string()),
           "make that folder, or name another one");
  }
  return place;
}

void check_replaceable(const fs::path& dir, bool replace, std::string_view sign) {
  if (!holds_something(dir)) return;
  std::error_code ignored;
  if (!fs::exists(dir / sign, ignored)) {
    refuse(fmt::format("{} is there and holds no {}, so it is not replaced", dir.string(), sign),
           "give another folder, or remove this one yourself");
  }
  if (!replace) {
    refuse(fmt::format("{} already exists", dir.string()), "give another folder, or --force to replace it");
  }
}

[[noreturn]] void refuse_stranger(const fs::path& path) {
  refuse(fmt::format("{} is in the way and not of our making", path.string()),
         "move it away, or give another folder");
}

fs::path checked_place(const fs::path& dir, bool replace, std::string_view sign) {
  fs::path place = real_place(dir);
  check_replaceable(place, replace, sign);
  std::error_code failure;
  fs::create_directories(place.parent_path(), failure);
  if (failure) fail_to_write("create the folder", place.parent_path(), failure.value());
  return place;
}

// Both names are there all the time. False where the file system cannot do it.
bool exchange(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

}  // namespace

FolderLock::FolderLock(fs::path path, const fs::path& written)
    : path_(std::move(path)), file_(open_locked(path_, O_RDWR, written)) {
  char found[kLockText.size() + 1];
  const ssize_t size = ::pread(file_, found, sizeof found, 0);
  left_behind_ = size == std::ssize(kLockText) && std::memcmp(found, kLockText.data(), kLockText.size()) == 0;
  if (size != 0 && !left_behind_) {
    ::close(file_);
    refuse_stranger(path_);
  }
  if (size == 0 && ::write(file_, kLockText.data(), kLockText.size()) != std::ssize(kLockText)) {
    const int reason = errno;
    ::unlink(path_.c_str());
    ::close(file_);
    fail_to_write("write", path_, reason);
  }
}

FolderLock::~FolderLock() {
  if (!kept_) ::unlink(path_.c_str());
  ::close(file_);  // lets it go, after it has gone
}

OutputFolder::OutputFolder(const fs::path& dir, bool replace, std::string_view sign)
    : dir_(checked_place(dir, replace, sign)),
      partial_(beside(dir_, ".partial")),
      replaced_(beside(dir_, ".replaced")),
      lock_(beside(dir_, ".lock"), dir_) {
  std::error_code failure;
  if (lock_.left_behind()) {
    tidy_up(failure);
    if (failure) fail_to_write("remove what an ended process left of", dir_, failure.value());
  }
  for (const fs::path& name : {partial_, replaced_}) {
    if (is_there(name)) refuse_stranger(name);
  }
  check_replaceable(dir_, replace, sign);  // again: a folder may have come back, or another process ended
  replacing_ = holds_something(dir_);
  fs::create_directory(partial_, failure);
  if (failure) fail_to_write("create the folder", partial_, failure.value());
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;  // what stays is for the next process
  tidy_up(ignored);
}

void OutputFolder::tidy_up(std::error_code& failure) {
  if (is_there(replaced_) && !is_there(dir_)) fs::rename(replaced_, dir_, failure);
  for (const fs::path& rest : {partial_, replaced_}) {
    if (!failure) fs::remove_all(rest, failure);
  }
  if (failure) lock_.keep();
}

void OutputFolder::write_text(const std::string& name, std::string_view text) const {
  OutputFile file(path(name));
  file.append(text);
  file.finish();
}

void OutputFolder::copy(const fs::path& file) const {
  std::error_code failure;
  fs::copy_file(file, path(file.filename().string()), failure);
  if (failure) fail_to_write("copy", file, failure.value());
}

// Where folders cannot be exchanged, the old one steps aside and comes back should the new one not get there.
void OutputFolder::take_place() {
  if (replacing_ && exchange(partial_, dir_)) return;
  std::error_code failure;
  if (replacing_) fs::rename(dir_, replaced_, failure);
  if (failure) fail_to_write("move away", dir_, failure.value());
  fs::rename(partial_, dir_, failure);
  if (!failure) return;
  std::error_code ignored;
  if (replacing_) fs::rename(replaced_, dir_, ignored);
  fail_to_write("rename to", dir_, failure.value());
}

void OutputFolder::finish() { take_place(); }  // the destructor removes the old one

}  // namespace fovea
