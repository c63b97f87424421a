// What a command reads, so that nothing it writes takes the place of it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace fovea {

// Files are told apart by device and inode, so that links and other spellings of a name make no difference.
class InputFiles {
 public:
  // A file, or a folder with the files that lie in it. What is not there is left out: whoever reads it says
  // so.
  void add(const std::filesystem::path& path);

  // Throws Error(invalid_argument) naming both, when a file written to `path`, its "<path>.partial" included,
  // would replace one of these. `option`: where the name comes from, "--json".
  void refuse_as_output(const std::filesystem::path& path, std::string_view option) const;
  // Likewise when a folder written to `path` would replace one of these or a folder that holds one.
  void refuse_as_output_folder(const std::filesystem::path& path, std::string_view option) const;

 private:
  void add_entry(const std::filesystem::path& path);
  const std::string* find(const std::filesystem::path& path) const;

  std::map<std::pair<dev_t, ino_t>, std::string> names_;  // as they were given
};

// Whether both names lead to one place, where nothing may be yet; an empty name leads nowhere.
bool same_place(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace fovea
