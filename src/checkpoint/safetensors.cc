#include "checkpoint/safetensors.h"

#include <limits>
#include <unordered_map>

#include "base/error.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors_header.h"

namespace fovea {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

uint64_t little_endian_u64(const char* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

// The header's text, checked to lie inside the file.
std::string_view header_text(const MappedFile& file, const std::string& name) {
  const auto corrupt = [&](const std::string& what) {
    throw Error(
        ErrorKind::corrupt, fmt::format("{} is not a safetensors file: {}", name, what),
        "download or write the file again; a partial download or a Git LFS pointer is the usual cause");
  };
  if (file.bytes() < 8) corrupt(fmt::format("it has only {} bytes", file.bytes()));
  const uint64_t length = little_endian_u64(file.data());
  if (length > kMaxHeaderBytes) corrupt(fmt::format("it claims a header of {} bytes", length));
  if (length > static_cast<uint64_t>(file.bytes()) - 8) {
    corrupt(fmt::format("its header of {} bytes does not fit into its {} bytes", length, file.bytes()));
  }
  if (length == 0 || file.data()[8] != '{') corrupt("its header does not begin with '{'");
  return {file.data() + 8, static_cast<size_t>(length)};
}

}  // namespace

size_t bytes_of(StoredType type) {
  switch (type) {
    case StoredType::f64:
    case StoredType::i64:
      return 8;
    case StoredType::f32:
    case StoredType::i32:
      return 4;
    case StoredType::bf16:
    case StoredType::f16:
      return 2;
    case StoredType::i8:
    case StoredType::u8:
      return 1;
  }
  return 0;
}

const char* name_of(StoredType type) {
  switch (type) {
    case StoredType::f64:
      return "F64";
    case StoredType::f32:
      return "F32";
    case StoredType::bf16:
      return "BF16";
    case StoredType::f16:
      return "F16";
    case StoredType::i64:
      return "I64";
    case StoredType::i32:
      return "I32";
    case StoredType::i8:
      return "I8";
    case StoredType::u8:
      return "U8";
  }
  return "?";
}

DType weight_dtype(StoredType type, const std::string& tensor_name) {
  if (type == StoredType::f32) return DType::f32;
  if (type == StoredType::bf16) return DType::bf16;
  if (type == StoredType::f16) return DType::f16;
  throw Error(ErrorKind::unsupported, fmt::format("tensor {} is stored as {}", tensor_name, name_of(type)),
              "convert the weights to F32, BF16 or F16; of a quantized checkpoint config.json must state the "
              "quantization_config (fovea reads AWQ, GPTQ and its own)");
}

StoredType stored_type(DType type) {
  switch (type) {
    case DType::f32:
      return StoredType::f32;
    case DType::bf16:
      return StoredType::bf16;
    case DType::f16:
      return StoredType::f16;
    case DType::f64:
      return StoredType::f64;
    case DType::i8:
      return StoredType::i8;
  }
  return StoredType::f32;
}

int64_t element_count(const std::vector<int64_t>& shape, const std::string& what) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 0 || (size > 0 && count > std::numeric_limits<int64_t>::max() / 8 / size)) {
      throw Error(ErrorKind::corrupt, fmt::format("{} has an impossible size {}", what, size),
                  "get the file again from its source");
    }
    count *= size;
  }
  return count;
}

const void* StoredTensor::checked(size_t element_bytes) const {
  FOVEA_CHECK(element_bytes == bytes_of(type));
  return data;
}

struct SafetensorsFile::State {
  std::filesystem::path path;
  MappedFile file;
  SafetensorsHeader header;
  std::unordered_map<std::string_view, size_t> index;  // views of the tensors' own names
  int64_t header_bytes = 0;
};

SafetensorsFile::SafetensorsFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;
SafetensorsFile::~SafetensorsFile() = default;

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  MappedFile file = MappedFile::open(path);
  const std::string name = path.string();
  const std::string_view text = header_text(file, name);
  const char* data = text.data() + text.size();
  SafetensorsHeader header = parse_safetensors_header(text, file.data() + file.bytes() - data, name);
  auto state = std::make_unique<State>(State{path, std::move(file), std::move(header), {}});
  state->header_bytes = data - state->file.data();
  for (size_t i = 0; i < state->header.tensors.size(); ++i) {
    StoredTensor& tensor = state->header.tensors[i];
    tensor.data = data + tensor.offset;
    if (tensor.bytes > 0 && reinterpret_cast<uintptr_t>(tensor.data) % bytes_of(tensor.type) != 0) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: tensor {} is not aligned to its elements", name, tensor.name),
                  "write the file again with safetensors 0.3 or newer, which pads the header");
    }
    state->index.emplace(tensor.name, i);
  }
  return SafetensorsFile(std::move(state));
}

const std::filesystem::path& SafetensorsFile::path() const { return state_->path; }
const std::vector<StoredTensor>& SafetensorsFile::tensors() const { return state_->header.tensors; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return state_->header.metadata;
}
int64_t SafetensorsFile::bytes() const { return state_->file.bytes(); }
int64_t SafetensorsFile::header_bytes() const { return state_->header_bytes; }

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = state_->index.find(name);
  return found == state_->index.end() ? nullptr : &state_->header.tensors[found->second];
}

const StoredTensor& SafetensorsFile::tensor(std::string_view name) const {
  const StoredTensor* found = find(name);
  if (found == nullptr) {
    throw Error(ErrorKind::not_found, fmt::format("{} holds no tensor {}", path().string(), name),
                "check that the file belongs to this model");
  }
  return *found;
}

void SafetensorsFile::read_ahead(const std::function<void(int64_t)>& done) const {
  state_->file.read_ahead(done);
}

void SafetensorsFile::drop_pages() const { state_->file.drop_pages(); }

}  // namespace fovea
