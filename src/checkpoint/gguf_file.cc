#include "checkpoint/gguf_file.h"

#include <charconv>
#include <cstring>
#include <unordered_map>

#include "base/error.h"
#include "checkpoint/gguf_header.h"
#include "checkpoint/mapped_file.h"

namespace fovea {
namespace {

constexpr int64_t kMaxListed = int64_t{1}
                               << 22;  // numbers that are taken out of the file: one for each token

template <typename T>
T value_at(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Element `index` of an integer type; nothing for another type or a value beyond 63 bits.
std::optional<int64_t> integer_at(const GgufValue& value, int64_t index) {
  const char* from = value.at;
  switch (value.type) {
    case GgufType::u8:
      return value_at<uint8_t>(from + index);
    case GgufType::i8:
      return value_at<int8_t>(from + index);
    case GgufType::u16:
      return value_at<uint16_t>(from + 2 * index);
    case GgufType::i16:
      return value_at<int16_t>(from + 2 * index);
    case GgufType::u32:
      return value_at<uint32_t>(from + 4 * index);
    case GgufType::i32:
      return value_at<int32_t>(from + 4 * index);
    case GgufType::u64: {
      const auto wide = value_at<uint64_t>(from + 8 * index);
      return wide >> 63 != 0 ? std::nullopt : std::optional(static_cast<int64_t>(wide));
    }
    case GgufType::i64:
      return value_at<int64_t>(from + 8 * index);
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(const GgufValue& value, int64_t index) {
  if (value.type == GgufType::f64) return value_at<double>(value.at + 8 * index);
  if (value.type != GgufType::f32) {
    const std::optional<int64_t> whole = integer_at(value, index);
    return whole ? std::optional(static_cast<double>(*whole)) : std::nullopt;
  }
  const std::string decimal = fmt::format("{}", value_at<float>(value.at + 4 * index));
  double number = 0;
  const auto [end, failure] = std::from_chars(decimal.data(), decimal.data() + decimal.size(), number);
  return failure == std::errc() ? std::optional(number) : std::nullopt;
}

}  // namespace

struct GgufFile::State {
  std::filesystem::path path;
  MappedFile file;
  GgufHeader header;
  std::unordered_map<std::string_view, size_t> index;  // views of the tensors' own names

  [[noreturn]] void wrong_type(const std::string& key, const char* wanted) const {
    throw Error(ErrorKind::corrupt, fmt::format("{}: {} is not {}", path.string(), key, wanted),
                "get the file again from its source, or convert the model again");
  }
  const GgufValue* find(const std::string& key, bool array, const char* wanted) const {
    const auto found = header.values.find(key);
    if (found == header.values.end()) return nullptr;
    if (found->second.is_array != array) wrong_type(key, wanted);
    if (found->second.count > kMaxListed && found->second.type != GgufType::string)
      wrong_type(key, "a list of at most 2^22 elements");
    return &found->second;
  }
};

GgufFile::GgufFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;
GgufFile::~GgufFile() = default;

GgufFile GgufFile::open(const std::filesystem::path& path) {
  MappedFile file = MappedFile::open(path);
  GgufHeader header = parse_gguf_header({file.data(), static_cast<size_t>(file.bytes())}, path.string());
  auto state = std::make_unique<State>(State{path, std::move(file), std::move(header), {}});
  for (size_t i = 0; i < state->header.tensors.size(); ++i)
    state->index.emplace(state->header.tensors[i].name, i);
  return GgufFile(std::move(state));
}

const std::filesystem::path& GgufFile::path() const { return state_->path; }
const std::vector<GgufTensor>& GgufFile::tensors() const { return state_->header.tensors; }

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = state_->index.find(name);
  return found == state_->index.end() ? nullptr : &state_->header.tensors[found->second];
}

std::vector<std::string> GgufFile::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : state_->header.values) keys.push_back(key);
  return keys;
}

bool GgufFile::has(const std::string& key) const { return state_->header.values.count(key) != 0; }

std::optional<std::string_view> GgufFile::string(const std::string& key) const {
  const GgufValue* value = state_->find(key, false, "a text");
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::string) state_->wrong_type(key, "a text");
  const char* at = value->at;
  return gguf_string(at);
}

std::optional<int64_t> GgufFile::integer(const std::string& key) const {
  const GgufValue* value = state_->find(key, false, "a whole number");
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> whole = integer_at(*value, 0);
  if (!whole) state_->wrong_type(key, "a whole number of at most 63 bits");
  return whole;
}

std::optional<double> GgufFile::number(const std::string& key) const {
  const GgufValue* value = state_->find(key, false, "a number");
  if (value == nullptr) return std::nullopt;
  const std::optional<double> number = number_at(*value, 0);
  if (!number) state_->wrong_type(key, "a number");
  return number;
}

std::optional<bool> GgufFile::boolean(const std::string& key) const {
  const GgufValue* value = state_->find(key, false, "true or false");
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::boolean) state_->wrong_type(key, "true or false");
  return *value->at != 0;
}

std::vector<int64_t> GgufFile::integers(const std::string& key) const {
  const GgufValue* value = state_->find(key, true, "a list of whole numbers");
  std::vector<int64_t> all;
  for (int64_t i = 0; value != nullptr && i < value->count; ++i) {
    const std::optional<int64_t> whole = integer_at(*value, i);
    if (!whole) state_->wrong_type(key, "a list of whole numbers");
    all.push_back(*whole);
  }
  return all;
}

std::vector<double> GgufFile::numbers(const std::string& key) const {
  const GgufValue* value = state_->find(key, true, "a list of numbers");
  std::vector<double> all;
  for (int64_t i = 0; value != nullptr && i < value->count; ++i) {
    const std::optional<double> number = number_at(*value, i);
    if (!number) state_->wrong_type(key, "a list of numbers");
    all.push_back(*number);
  }
  return all;
}

int64_t GgufFile::each_string(const std::string& key,
                              const std::function<void(std::string_view)>& take) const {
  const GgufValue* value = state_->find(key, true, "a list of texts");
  if (value == nullptr) return 0;
  if (value->type != GgufType::string) state_->wrong_type(key, "a list of texts");
  const char* at = value->at;
  for (int64_t i = 0; i < value->count; ++i) take(gguf_string(at));
  return value->count;
}

int64_t GgufFile::bytes() const { return state_->file.bytes(); }
void GgufFile::read_ahead(const std::function<void(int64_t)>& done) const { state_->file.read_ahead(done); }
void GgufFile::drop_pages() const { state_->file.drop_pages(); }

}  // namespace fovea
