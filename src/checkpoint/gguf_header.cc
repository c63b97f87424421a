#include "checkpoint/gguf_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "base/error.h"
#include "base/printable.h"
#include "checkpoint/safetensors.h"

namespace fovea {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they lie");

constexpr uint64_t kMaxKeys = 1 << 16, kMaxTensors = 1 << 16;  // published files have about 40 and 1000
constexpr uint64_t kMaxKey = 1 << 10, kMaxName = 1 << 8;       // bytes; llama.cpp itself allows 64 of a name
constexpr uint32_t kMaxRank = 4, kLeastAlignment = 8, kMostAlignment = 1 << 16;
constexpr const char* kRemedy = "download or write the file again; a partial download is the usual cause";

// ggml's numbers of what a tensor may be stored in. Those without a size are refused by name.
struct TensorType {
  uint32_t number;
  const char* name;
  std::optional<DType> plain = {};
  std::optional<BlockFormat> blocks = {};
};
const std::vector<TensorType>& tensor_types() {
  static const std::vector<TensorType> types{
      {0, "F32", DType::f32},
      {1, "F16", DType::f16},
      {2, "Q4_0", {}, BlockFormat::q4_0},
      {3, "Q4_1", {}, BlockFormat::q4_1},
      {6, "Q5_0", {}, BlockFormat::q5_0},
      {7, "Q5_1", {}, BlockFormat::q5_1},
      {8, "Q8_0", {}, BlockFormat::q8_0},
      {9, "Q8_1"},
      {10, "Q2_K"},
      {11, "Q3_K"},
      {12, "Q4_K", {}, BlockFormat::q4_k},
      {13, "Q5_K", {}, BlockFormat::q5_k},
      {14, "Q6_K", {}, BlockFormat::q6_k},
      {15, "Q8_K"},
      {16, "IQ2_XXS"},
      {17, "IQ2_XS"},
      {18, "IQ3_XXS"},
      {19, "IQ1_S"},
      {20, "IQ4_NL", {}, BlockFormat::iq4_nl},
      {21, "IQ3_S"},
      {22, "IQ2_S"},
      {23, "IQ4_XS", {}, BlockFormat::iq4_xs},
      {24, "I8"},
      {25, "I16"},
      {26, "I32"},
      {27, "I64"},
      {28, "F64"},
      {29, "IQ1_M"},
      {30, "BF16", DType::bf16},
      {34, "TQ1_0"},
      {35, "TQ2_0"},
      {39, "MXFP4"},
      {40, "NVFP4"},
      {41, "Q1_0"},
  };
  return types;
}

// Bytes of a value; 0 of those that say themselves how long they are.
size_t width_of(GgufType type) {
  constexpr std::array<size_t, 13> kWidths{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kWidths[static_cast<size_t>(type)];
}

class HeaderReader {
 public:
  HeaderReader(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  GgufHeader read() {
    const auto [tensors, keys] = read_counts();
    for (uint64_t i = 0; i < keys; ++i) read_value();
    read_alignment();
    header_.tensors.reserve(tensors);
    std::unordered_set<std::string> names;
    for (uint64_t i = 0; i < tensors; ++i) {
      read_tensor();
      if (!names.insert(header_.tensors.back().name).second)
        corrupt(fmt::format("tensor {} occurs twice", shown(header_.tensors.back().name)));
    }
    place_tensors();
    return std::move(header_);
  }

 private:
  struct Counts {
    uint64_t tensors, keys;
  };

  [[noreturn]] void corrupt(const std::string& what) const {
    throw Error(ErrorKind::corrupt, fmt::format("{}: {}", file_, what), kRemedy);
  }
  [[noreturn]] void refuse(const std::string& what, const char* remedy) const {
    throw Error(ErrorKind::unsupported, fmt::format("{}: {}", file_, what), remedy);
  }
  static std::string shown(std::string_view text) { return printable(text.substr(0, 200)); }

  uint64_t left() const { return bytes_.size() - at_; }

  template <typename T>
  T take(const char* what) {
    if (left() < sizeof(T)) corrupt(fmt::format("it ends within {}", what));
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string_view take_string(const char* what, uint64_t most) {
    const auto length = take<uint64_t>(what);
    if (length > left()) corrupt(fmt::format("it ends within {}, of {} bytes", what, length));
    if (length > most) corrupt(fmt::format("{} has {} bytes, the limit is {}", what, length, most));
    const std::string_view text = bytes_.substr(at_, length);
    at_ += length;
    return text;
  }

  Counts read_counts() {
    if (bytes_.size() < 4 || bytes_.substr(0, 4) != "GGUF") {
      throw Error(ErrorKind::corrupt, fmt::format("{} is no GGUF file: it does not begin with GGUF", file_),
                  "download or write the file again; a Git LFS pointer is a usual cause");
    }
    at_ = 4;
    const auto version = take<uint32_t>("its version");
    if ((version & 0xffff) == 0 && version != 0) {
      refuse("it is written for machines of the other byte order (big-endian)",
             "convert it with gguf-py's gguf_convert_endian.py");
    }
    if (version != 2 && version != 3) {
      refuse(fmt::format("its version is {}", version),
             "versions 2 and 3 are read; convert the model again with a llama.cpp of this year");
    }
    const Counts counts{take<uint64_t>("its number of tensors"), take<uint64_t>("its number of keys")};
    // The least that one takes: a length, a rank, a size, a type, an offset; a length, a type, a byte.
    limit(counts.tensors, kMaxTensors, 32, "tensors");
    limit(counts.keys, kMaxKeys, 13, "keys");
    return counts;
  }

  void limit(uint64_t count, uint64_t most, uint64_t least_bytes, const char* what) const {
    if (count > left() / least_bytes) {
      corrupt(fmt::format("it claims {} {} and has only {} bytes", count, what, bytes_.size()));
    }
    if (count <= most) return;
    throw Error(ErrorKind::exhausted, fmt::format("{} has {} {}, the limit is {}", file_, count, what, most),
                "get the file again from its source");
  }

  GgufType take_type() {
    const auto type = take<uint32_t>("the type of a value");
    if (type > static_cast<uint32_t>(GgufType::f64)) {
      refuse(fmt::format("a value has the unknown type {}", type), "convert the model again");
    }
    return static_cast<GgufType>(type);
  }

  void read_value() {
    const std::string key(take_string("a key", kMaxKey));
    GgufValue value{take_type()};
    if (value.type == GgufType::array) {
      value.type = take_type();
      value.is_array = true;
      if (value.type == GgufType::array)
        refuse(fmt::format("{} is an array of arrays", shown(key)), "no file of a Qwen2.5-VL has one");
      const auto count = take<uint64_t>("the length of an array");
      if (count > left() / std::max<size_t>(width_of(value.type), 1))
        corrupt(fmt::format("{} claims {} elements, which do not fit", shown(key), count));
      value.count = static_cast<int64_t>(count);
    }
    value.at = bytes_.data() + at_;
    skip(value);
    if (!header_.values.emplace(key, value).second) corrupt(fmt::format("key {} occurs twice", shown(key)));
  }

  void skip(const GgufValue& value) {
    if (value.type == GgufType::string) {
      for (int64_t i = 0; i < value.count; ++i) take_string("a text", std::numeric_limits<uint64_t>::max());
      return;
    }
    const uint64_t bytes = static_cast<uint64_t>(value.count) * width_of(value.type);
    if (bytes > left()) corrupt("it ends within a value");
    at_ += bytes;
  }

  void read_alignment() {
    const auto found = header_.values.find("general.alignment");
    if (found == header_.values.end()) return;
    if (found->second.type != GgufType::u32 || found->second.is_array)
      corrupt("general.alignment is no number of 32 bits");
    std::memcpy(&alignment_, found->second.at, sizeof alignment_);
    if (!std::has_single_bit(alignment_) || alignment_ < kLeastAlignment || alignment_ > kMostAlignment)
      corrupt(fmt::format("general.alignment is {}", alignment_));
  }

  void read_tensor() {
    GgufTensor tensor;
    tensor.name = take_string("the name of a tensor", kMaxName);
    const auto rank = take<uint32_t>("a tensor's number of dimensions");
    if (rank < 1 || rank > kMaxRank)
      corrupt(fmt::format("tensor {} has {} dimensions", shown(tensor.name), rank));
    tensor.shape.resize(rank);
    for (uint32_t i = rank; i-- > 0;) {
      const auto size = take<uint64_t>("the shape of a tensor");
      if (size < 1 || size > uint64_t{1} << 40)
        corrupt(fmt::format("tensor {} has the size {}", shown(tensor.name), size));
      tensor.shape[i] = static_cast<int64_t>(size);
    }
    set_type(take<uint32_t>("the type of a tensor"), tensor);
    const auto offset = take<uint64_t>("the place of a tensor");
    if (offset > bytes_.size() || offset % alignment_ != 0)
      corrupt(fmt::format("tensor {} begins at byte {} of the data", shown(tensor.name), offset));
    tensor.offset = static_cast<int64_t>(offset);
    header_.tensors.push_back(std::move(tensor));
  }

  void set_type(uint32_t number, GgufTensor& tensor) const {
    const auto& types = tensor_types();
    const auto type = std::find_if(types.begin(), types.end(),
                                   [&](const TensorType& known) { return known.number == number; });
    if (type == types.end() || (!type->plain && !type->blocks)) {
      refuse(fmt::format("tensor {} is stored as {}", shown(tensor.name),
                         type == types.end() ? fmt::format("the unknown type {}", number) : type->name),
             "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, IQ4_NL and IQ4_XS are read: "
             "take the model in one of them, as Q4_K_M, or quantize it again");
    }
    const int64_t elements =
        element_count(tensor.shape, fmt::format("{}: tensor {}", file_, shown(tensor.name)));
    if (type->plain) {
      tensor.dtype = *type->plain;
      tensor.bytes = elements * static_cast<int64_t>(bytes_of(tensor.dtype));
      return;
    }
    tensor.blocks = type->blocks;
    const int64_t block = elements_of(*type->blocks);
    if (tensor.shape.back() % block != 0) {
      corrupt(fmt::format("tensor {} has rows of {}, which {} cannot store in blocks of {}",
                          shown(tensor.name), tensor.shape.back(), type->name, block));
    }
    tensor.bytes = elements / block * bytes_of(*type->blocks);
  }

  // Offsets count from the end of the header, rounded up.
  void place_tensors() {
    const uint64_t begin = (at_ + alignment_ - 1) / alignment_ * alignment_, size = bytes_.size();
    std::vector<const GgufTensor*> by_place;
    for (GgufTensor& tensor : header_.tensors) {
      const auto offset = static_cast<uint64_t>(tensor.offset), bytes = static_cast<uint64_t>(tensor.bytes);
      if (begin > size || offset > size - begin || bytes > size - begin - offset)
        corrupt(fmt::format("tensor {} lies behind the end of the file", shown(tensor.name)));
      tensor.offset += static_cast<int64_t>(begin);
      tensor.data = bytes_.data() + tensor.offset;
      by_place.push_back(&tensor);
    }
    std::sort(by_place.begin(), by_place.end(),
              [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < by_place.size(); ++i) {
      if (by_place[i - 1]->offset + by_place[i - 1]->bytes > by_place[i]->offset)
        corrupt(
            fmt::format("tensors {} and {} overlap", shown(by_place[i - 1]->name), shown(by_place[i]->name)));
    }
  }

  std::string_view bytes_;
  const std::string& file_;
  uint64_t at_ = 0;
  uint32_t alignment_ = 32;
  GgufHeader header_;
};

}  // namespace

const char* GgufTensor::type_name() const {
  if (blocks) return name_of(*blocks);
  return dtype == DType::f32 ? "F32" : dtype == DType::f16 ? "F16" : "BF16";
}

GgufHeader parse_gguf_header(std::string_view bytes, const std::string& file) {
  return HeaderReader(bytes, file).read();
}

std::string_view gguf_string(const char*& at) {
  uint64_t length;
  std::memcpy(&length, at, sizeof length);
  const std::string_view text(at + sizeof length, length);
  at += sizeof length + length;
  return text;
}

}  // namespace fovea
