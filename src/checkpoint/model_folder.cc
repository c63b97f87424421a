#include "checkpoint/model_folder.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <optional>
#include <vector>

#include "base/error.h"
#include "checkpoint/adapter_files.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_files.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxPart = 96;        // of a name, as on the hub
constexpr size_t kMaxListed = 5;       // files or revisions in an error
constexpr std::streamsize kHash = 40;  // digits of a commit
constexpr int kMaxEntries = 10'000;    // of a folder that are looked at

struct HubModel {
  std::string organisation, name, revision = "main";

  std::string id() const { return fmt::format("{}/{}", organisation, name); }
  std::string download() const {
    return fmt::format("hf download {}{}", id(), revision == "main" ? "" : " --revision " + revision);
  }
};

bool is_part(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= kMaxPart && text.front() != '.' && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), allowed);
}

// Parts between slashes, none of which leaves the folder.
bool is_revision(std::string_view text) {
  while (true) {
    const size_t slash = text.find('/');
    if (!is_part(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

std::optional<HubModel> parse_name(const std::string& model) {
  const size_t at = model.find('@'), slash = model.find('/');
  HubModel parsed;
  parsed.organisation = model.substr(0, slash);
  if (slash == std::string::npos || at < slash) return std::nullopt;
  parsed.name = model.substr(slash + 1, at == std::string::npos ? at : at - slash - 1);
  if (at != std::string::npos) parsed.revision = model.substr(at + 1);
  const bool valid = is_part(parsed.organisation) && is_part(parsed.name) && is_revision(parsed.revision);
  return valid ? std::optional(parsed) : std::nullopt;
}

// The first names of `dir` that `chosen` wants.
std::vector<std::string> names_in(const fs::path& dir,
                                  const std::function<bool(const fs::directory_entry&)>& chosen) {
  std::vector<std::string> names;
  std::error_code failure;
  int left = kMaxEntries;
  for (fs::directory_iterator entry(dir, failure), end; !failure && entry != end && left-- > 0;
       entry.increment(failure)) {
    if (chosen(*entry)) names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

[[noreturn]] void not_there(const std::string& what, const HubModel& model) {
  throw Error(ErrorKind::not_found, what, model.download());
}

// The commit that refs/REVISION holds, or the revision itself if it is one.
std::string commit_of(const fs::path& repository, const HubModel& model) {
  std::error_code ignored;
  const fs::path ref = repository / "refs" / model.revision;
  if (fs::is_regular_file(ref, ignored)) {
    std::string hash(static_cast<size_t>(kHash), '\0');
    std::ifstream file(ref, std::ios::binary);
    file.read(hash.data(), kHash);
    if (file.gcount() == kHash && is_part(hash)) return hash;
    not_there(fmt::format("{} holds no commit", ref.string()), model);
  }
  if (fs::is_directory(repository / "snapshots" / model.revision, ignored)) return model.revision;
  std::vector<std::string> known =
      names_in(repository / "snapshots", [](const auto& entry) { return entry.is_directory(); });
  known.resize(std::min(known.size(), kMaxListed));
  not_there(fmt::format("{} is in the Hugging Face cache, but not its revision {}{}{}", model.id(),
                        model.revision, known.empty() ? "" : "; there is ", fmt::join(known, ", ")),
            model);
}

// Links whose file never came, shards that the index lists, and what no model is without.
std::vector<std::string> missing_files(const fs::path& snapshot) {
  std::vector<std::string> missing =
      names_in(snapshot, [](const auto& entry) { return entry.is_symlink() && !path_exists(entry.path()); });
  const auto add = [&](const std::string& name) {
    if (std::find(missing.begin(), missing.end(), name) == missing.end()) missing.push_back(name);
  };
  if (adapter_in(snapshot)) return missing;  // Checkpoint::open knows what to say
  const bool gguf =
      !names_in(snapshot, [](const auto& entry) { return entry.path().extension() == ".gguf"; }).empty();
  if (gguf && !path_exists(snapshot / "config.json")) return missing;
  if (!path_exists(snapshot / "config.json")) add("config.json");
  for (const std::string& shard : missing_shards(snapshot)) add(shard);
  const bool other_weights = !names_in(snapshot, [](const auto& entry) {
                                const fs::path kind = entry.path().extension();
                                return kind == ".bin" || kind == ".gguf" || kind == ".pt";
                              }).empty();
  if (!has_weight_files(snapshot) && !other_weights) add("model.safetensors");
  return missing;
}

void require_complete(const fs::path& repository, const fs::path& snapshot, const HubModel& model) {
  std::vector<std::string> missing = missing_files(snapshot);
  if (missing.empty()) return;
  const size_t count = missing.size();
  missing.resize(std::min(count, kMaxListed));
  const bool interrupted = !names_in(repository / "blobs", [](const auto& entry) {
                              return entry.path().extension() == ".incomplete";
                            }).empty();
  not_there(fmt::format("{} is not complete: {} lacks {}{}{}", model.id(), snapshot.string(),
                        fmt::join(missing, ", "), count > kMaxListed ? ", ..." : "",
                        interrupted ? " (a download was interrupted)" : ""),
            model);
}

}  // namespace

std::string place_beside(const fs::path& dir) {
  std::string path = dir.string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const fs::path snapshots = fs::path(path).parent_path();
  const std::string repository = snapshots.parent_path().filename().string();
  if (snapshots.filename() != "snapshots" || !repository.starts_with("models--")) return path;
  return repository.substr(repository.rfind("--") + 2);
}

fs::path find_model(const std::string& model, const fs::path& hub_cache) {
  std::error_code ignored;
  if (fs::is_directory(model, ignored) || fs::is_regular_file(model, ignored) || model.ends_with(".gguf"))
    return model;
  const std::optional<HubModel> name = parse_name(model);
  if (!name) return model;
  const fs::path repository = hub_cache / fmt::format("models--{}--{}", name->organisation, name->name);
  if (!fs::is_directory(repository, ignored)) {
    not_there(fmt::format("{} is neither a folder nor in the Hugging Face cache {}", name->id(),
                          hub_cache.string()),
              *name);
  }
  const std::string commit = commit_of(repository, *name);
  const fs::path snapshot = repository / "snapshots" / commit;
  if (!fs::is_directory(snapshot, ignored)) {
    not_there(fmt::format("{} in the Hugging Face cache lacks the files of {}", name->id(), commit), *name);
  }
  require_complete(repository, snapshot, *name);
  return snapshot;
}

}  // namespace fovea
