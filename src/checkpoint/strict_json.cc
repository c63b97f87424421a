#include "checkpoint/strict_json.h"

#include <set>
#include <vector>

#include "base/error.h"
#include "checkpoint/mapped_file.h"

namespace fovea {
namespace {

// Each takes some fifty bytes, however short it is written. The longest lists of checkpoints, merges and
// vocabularies, have their own readers.
constexpr int64_t kMostJsonValues = int64_t{1} << 21;

// nlohmann keeps the last of two equal keys, nests without limit and takes any number of values; this refuses
// all three while parsing.
class Watch {
 public:
  explicit Watch(const std::string& file_name) : file_name_(file_name) {}

  bool operator()(int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kMaxJsonDepth) {
      throw Error(ErrorKind::corrupt,
                  fmt::format("{} nests deeper than {} levels", file_name_, kMaxJsonDepth),
                  "get the file again from its source");
    }
    if ((event == Event::value || event == Event::object_start || event == Event::array_start) &&
        ++values_ > kMostJsonValues) {
      throw Error(ErrorKind::exhausted,
                  fmt::format("{} holds more than {} values", file_name_, kMostJsonValues),
                  "check that it is the right file");
    }
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get<std::string>()).second) {
      throw Error(ErrorKind::corrupt,
                  fmt::format("{} states the key \"{}\" twice", file_name_, parsed.get<std::string>()),
                  "keep one of the two");
    }
    return true;
  }

 private:
  const std::string& file_name_;
  std::vector<std::set<std::string>> keys_;
  int64_t values_ = 0;
};

}  // namespace

nlohmann::json parse_json_object(std::string_view text, const std::string& file_name, int64_t max_bytes) {
  if (static_cast<int64_t>(text.size()) > max_bytes) {
    throw Error(ErrorKind::exhausted,
                fmt::format("{} has {} bytes, the limit is {}", file_name, text.size(), max_bytes),
                "check that it is the right file");
  }
  nlohmann::json object;
  try {
    object = nlohmann::json::parse(text.begin(), text.end(), Watch(file_name));
  } catch (const nlohmann::json::exception& failure) {
    throw Error(ErrorKind::corrupt, fmt::format("{} is not valid JSON: {}", file_name, failure.what()),
                "get the file again from its source");
  }
  if (!object.is_object()) {
    throw Error(ErrorKind::corrupt, fmt::format("{} holds no JSON object at its top", file_name),
                "get the file again from its source");
  }
  return object;
}

std::string read_json_text(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  if (file.bytes() > kMaxJsonBytes) {
    throw Error(ErrorKind::exhausted,
                fmt::format("{} has {} bytes, the limit is {}", path.string(), file.bytes(), kMaxJsonBytes),
                "check that it is the right file");
  }
  return {file.data(), static_cast<size_t>(file.bytes())};
}

}  // namespace fovea
