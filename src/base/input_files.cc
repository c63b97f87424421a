#include "base/input_files.h"

#include <sys/stat.h>

#include <system_error>

#include "base/error.h"

namespace fovea {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void refuse(const fs::path& path, std::string_view option, const std::string& input,
                         const char* how) {
  throw Error(ErrorKind::invalid_argument,
              fmt::format("{} {} would {} {}, which is read", option, path.string(), how, input),
              fmt::format("give {} another name", option));
}

}  // namespace

bool same_place(const fs::path& a, const fs::path& b) {
  // Of a relative path of which nothing exists, weakly_canonical alone would leave a relative one.
  const auto place = [](const fs::path& path) {
    std::error_code ignored;
    return fs::weakly_canonical(fs::absolute(path, ignored), ignored);
  };
  return !a.empty() && !b.empty() && place(a) == place(b);
}

void InputFiles::add_entry(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0)
    names_.emplace(std::pair(status.st_dev, status.st_ino), path.string());
}

void InputFiles::add(const fs::path& path) {
  add_entry(path);
  std::error_code ignored;
  for (fs::directory_iterator entry(path, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    if (!entry->is_directory(ignored)) add_entry(entry->path());
  }
}

const std::string* InputFiles::find(const fs::path& path) const {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return nullptr;
  const auto found = names_.find({status.st_dev, status.st_ino});
  return found == names_.end() ? nullptr : &found->second;
}

void InputFiles::refuse_as_output(const fs::path& path, std::string_view option) const {
  if (path.empty()) return;
  std::error_code ignored;
  const fs::path target = fs::weakly_canonical(path, ignored);  // OutputFile works beside a link's target
  for (const fs::path& written : {path, fs::path(target.string() + ".partial")}) {
    if (const std::string* input = find(written)) refuse(path, option, *input, "replace");
  }
}

void InputFiles::refuse_as_output_folder(const fs::path& path, std::string_view option) const {
  if (const std::string* input = find(path)) refuse(path, option, *input, "replace");
  struct stat folder {};
  if (::stat(path.c_str(), &folder) != 0) return;
  for (const auto& [id, name] : names_) {
    std::error_code failure;
    const fs::path place = fs::canonical(name, failure);
    if (failure) continue;
    for (fs::path above = place.parent_path(); above.has_relative_path(); above = above.parent_path()) {
      struct stat status {};
      if (::stat(above.c_str(), &status) != 0) break;
      if (status.st_dev == folder.st_dev && status.st_ino == folder.st_ino)
        refuse(path, option, name, "hold and replace");
    }
  }
}

}  // namespace fovea
