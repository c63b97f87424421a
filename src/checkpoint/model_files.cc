#include "checkpoint/model_files.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <system_error>

#include "base/error.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/mapped_file.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxEntries = 10'000;  // of a folder that are looked at
constexpr size_t kMaxFiles = 64;     // GGUF files of a folder whose headers are read
constexpr int64_t kMaxParts = 4096;
constexpr const char* kBoth = "give -m MODEL.gguf --mmproj MMPROJ.gguf";

// "NAME-00001-of-00003.gguf": what is before the number, the number, how many there are.
struct PartName {
  std::string stem;
  int64_t number = 0, count = 0;
};

std::optional<PartName> part_of(const std::string& name) {
  constexpr std::string_view kEnd = ".gguf", kOf = "-of-";
  constexpr size_t kDigits = 5, kLength = 1 + kDigits + kOf.size() + kDigits + kEnd.size();
  if (name.size() <= kLength || !name.ends_with(kEnd)) return std::nullopt;
  const size_t at = name.size() - kLength;
  const std::string number = name.substr(at + 1, kDigits),
                    count = name.substr(at + 1 + kDigits + kOf.size(), kDigits);
  const auto digits = [](const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  };
  if (name[at] != '-' || name.substr(at + 1 + kDigits, kOf.size()) != kOf || !digits(number) ||
      !digits(count))
    return std::nullopt;
  return PartName{name.substr(0, at), std::stoll(number), std::stoll(count)};
}

std::vector<fs::path> gguf_files_in(const fs::path& dir) {
  std::vector<fs::path> files;
  std::error_code failure;
  int left = kMaxEntries;
  for (fs::directory_iterator entry(dir, failure), end; !failure && entry != end && left-- > 0;
       entry.increment(failure)) {
    if (entry->path().extension() == ".gguf") files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool is_mmproj(const fs::path& file) {
  return GgufFile::open(file).string("general.architecture").value_or("") == "clip";
}

std::string names_of(const std::vector<fs::path>& files) {
  std::vector<std::string> names;
  for (const fs::path& file : files) names.push_back(file.filename().string());
  return fmt::format("{}", fmt::join(names, ", "));
}

ModelFiles in_folder(const fs::path& dir, std::vector<fs::path> files) {
  const auto later_part = [](const fs::path& file) {
    const std::optional<PartName> part = part_of(file.filename().string());
    return part && part->number != 1;
  };
  files.erase(std::remove_if(files.begin(), files.end(), later_part), files.end());
  if (files.size() > kMaxFiles) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} holds {} GGUF files", dir.string(), files.size()), kBoth);
  }
  std::vector<fs::path> models, mmprojs;
  for (const fs::path& file : files) (is_mmproj(file) ? mmprojs : models).push_back(file);
  if (models.size() == 1 && mmprojs.size() == 1) return {models.front(), mmprojs.front()};
  const auto counted = [](const std::vector<fs::path>& list, const char* what) {
    if (list.empty()) return fmt::format("no {}", what);
    return fmt::format("{} {}{} ({})", list.size(), what, list.size() == 1 ? "" : "s", names_of(list));
  };
  throw Error(models.empty() || mmprojs.empty() ? ErrorKind::not_found : ErrorKind::invalid_argument,
              fmt::format("{} holds {} and {} in GGUF, one of each is wanted", dir.string(),
                          counted(models, "language model"), counted(mmprojs, "mmproj")),
              kBoth);
}

[[noreturn]] void refuse_without_mmproj(const fs::path& model) {
  std::vector<fs::path> beside;
  for (const fs::path& file : gguf_files_in(model.has_parent_path() ? model.parent_path() : fs::path("."))) {
    if (file.filename().string().find("mmproj") != std::string::npos) beside.push_back(file);
  }
  throw Error(
      ErrorKind::invalid_argument,
      fmt::format("{} has no vision tower: llama.cpp keeps it in a second file", model.string()),
      beside.empty()
          ? "give that file, too: --mmproj mmproj-....gguf"
          : fmt::format("give it, too: --mmproj {}{}", beside.front().string(),
                        beside.size() > 1 ? fmt::format(" (or another of {})", names_of(beside)) : ""));
}

}  // namespace

std::vector<std::string> ModelFiles::arguments() const {
  if (mmproj.empty()) return {model.string()};
  return {model.string(), "--mmproj", mmproj.string()};
}

ModelFiles resolved(const ModelFiles& files) {
  std::error_code ignored;
  if (fs::is_directory(files.model, ignored)) {
    if (!files.mmproj.empty()) {
      throw Error(
          ErrorKind::invalid_argument,
          fmt::format("--mmproj {} beside the folder {}", files.mmproj.string(), files.model.string()),
          "name the GGUF file of the language model by -m, or leave --mmproj out");
    }
    if (path_exists(files.model / "config.json")) return files;
    std::vector<fs::path> found = gguf_files_in(files.model);
    return found.empty() ? files : in_folder(files.model, std::move(found));
  }
  if (!fs::exists(files.model, ignored) && files.mmproj.empty() && files.model.extension() != ".gguf")
    return files;  // whoever opens it as a folder says what is missing
  if (is_mmproj(files.model)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is an mmproj, a vision tower without language model", files.model.string()),
                kBoth);
  }
  if (files.mmproj.empty()) refuse_without_mmproj(files.model);
  if (!is_mmproj(files.mmproj)) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is no mmproj: its general.architecture is not clip", files.mmproj.string()),
                kBoth);
  }
  return files;
}

bool is_gguf(const ModelFiles& resolved) { return !resolved.mmproj.empty(); }

std::vector<fs::path> split_files(const fs::path& first) {
  const std::optional<PartName> part = part_of(first.filename().string());
  if (!part) return {first};
  const auto name_of_part = [&](int64_t number) {
    return first.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", part->stem, number, part->count);
  };
  if (part->number != 1) {
    throw Error(ErrorKind::invalid_argument,
                fmt::format("{} is part {} of {}", first.string(), part->number, part->count),
                fmt::format("give the first: {}", name_of_part(1).string()));
  }
  if (part->count > kMaxParts) {
    throw Error(ErrorKind::exhausted,
                fmt::format("{} has {} parts, the limit is {}", first.string(), part->count, kMaxParts),
                "get the files again from their source");
  }
  std::vector<fs::path> files;
  for (int64_t i = 1; i <= part->count; ++i) {
    files.push_back(name_of_part(i));
    if (path_exists(files.back())) continue;
    throw Error(ErrorKind::not_found,
                fmt::format("{} is missing: {} is the first of {}", files.back().string(),
                            first.filename().string(), part->count),
                "download the missing file into the folder");
  }
  return files;
}

}  // namespace fovea
