// A folder that appears under its name only when it is complete.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace fovea {

// Files go to "<dir>.partial"; finish() renames it. Without finish() it is removed, and the next attempt
// removes what a killed process left.
class OutputFolder {
 public:
  // Throws Error(invalid_argument) when `dir` holds something and `replace` is false, or when what it holds
  // is no checkpoint; Error(io) when it cannot be made.
  OutputFolder(std::filesystem::path dir, bool replace);
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;
  ~OutputFolder();

  const std::filesystem::path& partial() const { return partial_; }
  std::filesystem::path path(const std::string& name) const { return partial_ / name; }
  void write_text(const std::string& name, std::string_view text) const;
  void copy(const std::filesystem::path& file) const;
  void finish();

 private:
  std::filesystem::path dir_, partial_;
  bool finished_ = false;
};

}  // namespace fovea
