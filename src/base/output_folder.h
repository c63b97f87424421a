// A folder that appears under its name only when it is complete.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace fovea {

// A file that one process at a time holds, and that says to others, also after a kill, whose what lies beside
// it is.
class FolderLock {
 public:
  // Throws Error(invalid_argument) when another process holds it or when it is no lock of ours.
  FolderLock(std::filesystem::path path, const std::filesystem::path& written);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

  // Whether a process that held it was ended before it could tidy up.
  bool left_behind() const { return left_behind_; }
  // It stays when it is let go, because so does something that the next process has to tidy up.
  void keep() { kept_ = true; }

 private:
  std::filesystem::path path_;
  int file_ = -1;
  bool left_behind_ = false, kept_ = false;
};

// Files go to "<dir>.partial", which takes the place of `dir` in one step; a folder that is replaced is there
// until then, so that whoever opens `dir` finds the one or the other. "<dir>.lock" is held meanwhile and goes
// at the end. Without finish() nothing changes. What a killed process left is put right by the next one: its
// "<dir>.partial" goes, and a folder that it had only moved to "<dir>.replaced" comes back.
class OutputFolder {
 public:
  // `sign`: the file by which a folder is known to be of the kind that is written; no other is replaced.
  // Throws Error(invalid_argument) when `dir` holds something and `replace` is false, when it lacks the sign,
  // and when another process is writing it; Error(io) when it cannot be made.
  OutputFolder(const std::filesystem::path& dir, bool replace, std::string_view sign);
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  ~OutputFolder();

  const std::filesystem::path& partial() const { return partial_; }
  std::filesystem::path path(const std::string& name) const { return partial_ / name; }
  void write_text(const std::string& name, std::string_view text) const;
  void copy(const std::filesystem::path& file) const;
  void finish();

 private:
  void tidy_up(std::error_code& failure);
  void take_place();

  std::filesystem::path dir_, partial_, replaced_;
  bool replacing_ = false;
  FolderLock lock_;
};

}  // namespace fovea
