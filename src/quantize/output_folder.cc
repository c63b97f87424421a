#include "quantize/output_folder.h"

#include "base/error.h"
#include "base/output_file.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

// Its presence says that a folder is one of ours, and not complete.
constexpr const char* kMarker = "INCOMPLETE";

fs::path beside(const fs::path& dir, const char* ending) { return dir.string() + ending; }

bool holds_something(const fs::path& dir) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(dir, ignored)) &&
         !(fs::is_directory(dir, ignored) && fs::is_empty(dir, ignored));
}

void check_replaceable(const fs::path& dir, bool replace) {
  if (!holds_something(dir)) return;
  if (!replace) {
    throw Error(ErrorKind::invalid_argument, fmt::format("{} already exists", dir.string()),
                "give another folder, or --force to replace it");
  }
  if (std::error_code ignored; fs::is_symlink(dir, ignored) || !fs::exists(dir / "config.json", ignored)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is no checkpoint folder, so it is not replaced", dir.string()),
                "give another folder, or remove this one yourself");
  }
}

}  // namespace

OutputFolder::OutputFolder(fs::path dir, bool replace) : dir_(std::move(dir)) {
  dir_ = fs::absolute(dir_).lexically_normal();
  if (!dir_.has_filename()) dir_ = dir_.parent_path();
  partial_ = beside(dir_, ".partial");
  check_replaceable(dir_, replace);
  std::error_code failure;
  if (holds_something(partial_)) {
    if (!fs::exists(partial_ / kMarker, failure)) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("{} is in the way and not of our making", partial_.string()),
                  "move it away, or give another folder");
    }
    fs::remove_all(partial_, failure);
  }
  fs::create_directories(partial_, failure);
  if (failure) fail_to_write("create the folder", partial_, failure.value());
  write_text(kMarker, "fovea quantize is writing this folder, or was ended while it did.\n");
}

OutputFolder::~OutputFolder() {
  std::error_code ignored;  // nothing can be done about what stays
  if (!finished_) fs::remove_all(partial_, ignored);
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

void OutputFolder::finish() {
  std::error_code failure;
  const fs::path replaced = beside(dir_, ".replaced");
  const bool replacing = holds_something(dir_);
  if (replacing) fs::rename(dir_, replaced, failure);
  if (failure) fail_to_write("move away", dir_, failure.value());
  fs::rename(partial_, dir_, failure);
  if (failure) {
    std::error_code ignored;
    if (replacing) fs::rename(replaced, dir_, ignored);
    fail_to_write("rename to", dir_, failure.value());
  }
  finished_ = true;
  fs::remove(dir_ / kMarker, failure);
  if (replacing) fs::remove_all(replaced, failure);
}

}  // namespace fovea
