// Where a target puts its input when the reader wants files.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace fovea::fuzz {

// A folder in TMPDIR (tools/fuzz.py puts it into memory), removed at the program's end.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::string_view bytes) const;
  void remove(std::string_view name) const;

 private:
  std::filesystem::path path_;
};

// The pieces of an input that stands for several files: a line of "%%" separates them.
std::vector<std::string_view> pieces(std::string_view bytes);

}  // namespace fovea::fuzz
