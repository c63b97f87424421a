#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"

namespace fovea {
namespace {

constexpr size_t kMaxTensors = 1 << 18;  // the 72B has about 1400
constexpr size_t kMaxMetadata = 1 << 16;
constexpr size_t kMaxRank = 16;
constexpr const char* kRemedy = "download or write the file again; a partial download is the usual cause";

constexpr std::array<StoredType, 8> kTypes{StoredType::f64, StoredType::f32, StoredType::bf16,
                                           StoredType::f16, StoredType::i64, StoredType::i32,
                                           StoredType::i8,  StoredType::u8};

// Receives the parser's events. The grammar is two levels: {"name": {"dtype": s, "shape": [n...],
// "data_offsets": [n, n]}, "__metadata__": {s: s}}; `Place` says where in it the parser stands.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& file_name) : file_name_(file_name) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_float(double, const std::string&) override {
    return unexpected("a fraction or a number beyond 64 bits");
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool number_integer(int64_t value) override {
    if (value < 0) return unexpected(fmt::format("the negative number {}", value));
    return add_number(static_cast<uint64_t>(value));
  }
  bool number_unsigned(uint64_t value) override { return add_number(value); }

  bool string(std::string& value) override {
    if (place_ == Place::metadata) {
      if (header_.metadata.size() == kMaxMetadata) return unexpected("too many entries");
      header_.metadata.emplace(key_, std::move(value));
      return true;
    }
    if (place_ != Place::tensor || key_ != "dtype") return unexpected("a string");
    const auto found =
        std::find_if(kTypes.begin(), kTypes.end(), [&](StoredType t) { return value == name_of(t); });
    if (found == kTypes.end()) {
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: tensor {} has dtype {}", file_name_, tensor_.name, value.substr(0, 40)),
                  "convert it to F32, BF16 or F16");
    }
    type_ = *found;
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else if (place_ == Place::top && name_ == "__metadata__") {
      place_ = Place::metadata;
    } else if (place_ == Place::top) {
      start_tensor();
    } else {
      return unexpected("an object");
    }
    key_.clear();
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) finish_tensor();
    place_ = place_ == Place::top ? Place::outside : Place::top;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::tensor || (key_ != "shape" && key_ != "data_offsets")) return unexpected("an array");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    (place_ == Place::shape ? shape_ : offsets_).emplace();
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool key(std::string& value) override {
    const bool first = place_ == Place::top        ? names_.insert(value).second
                       : place_ == Place::metadata ? header_.metadata.count(value) == 0
                                                   : !stated(value);
    if (!first) corrupt(fmt::format("states \"{}\" twice", value.substr(0, 200)));
    if (place_ == Place::tensor && value != "dtype" && value != "shape" && value != "data_offsets") {
      corrupt(fmt::format("tensor {} has the unknown field \"{}\"", tensor_.name, value.substr(0, 200)));
    }
    (place_ == Place::top ? name_ : key_) = std::move(value);
    return true;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& failure) override {
    corrupt(fmt::format("is not valid JSON: {}", failure.what()));
  }

 private:
  enum class Place { outside, top, metadata, tensor, shape, offsets };

  [[noreturn]] void corrupt(const std::string& what) const {
    throw Error(ErrorKind::corrupt, fmt::format("the header of {} {}", file_name_, what), kRemedy);
  }

  bool unexpected(const std::string& what) const {
    corrupt(fmt::format("holds {} where none may be, near \"{}\"", what, name_.substr(0, 200)));
  }

  bool stated(const std::string& field) const {
    return (field == "dtype" && type_) || (field == "shape" && shape_) ||
           (field == "data_offsets" && offsets_);
  }

  bool add_number(uint64_t value) {
    if (place_ != Place::shape && place_ != Place::offsets) return unexpected("a number");
    std::vector<int64_t>& list = place_ == Place::shape ? *shape_ : *offsets_;
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return unexpected("a number beyond 2^63");
    if (list.size() == kMaxRank) return unexpected(fmt::format("a list longer than {}", kMaxRank));
    list.push_back(static_cast<int64_t>(value));
    return true;
  }

  void start_tensor() {
    if (header_.tensors.size() == kMaxTensors) {
      throw Error(ErrorKind::exhausted, fmt::format("{} lists more than {} tensors", file_name_, kMaxTensors),
                  kRemedy);
    }
    place_ = Place::tensor;
    tensor_ = StoredTensor{};
    tensor_.name = name_;
    type_.reset();
    shape_.reset();
    offsets_.reset();
  }

  void finish_tensor() {
    if (!type_ || !shape_ || !offsets_) {
      corrupt(fmt::format("gives tensor {} no {}", name_,
                          !type_    ? "dtype"
                          : !shape_ ? "shape"
                                    : "data_offsets"));
    }
    if (offsets_->size() != 2 || (*offsets_)[1] < (*offsets_)[0]) {
      corrupt(fmt::format("gives tensor {} offsets that are no range", name_));
    }
    tensor_.type = *type_;
    tensor_.shape = std::move(*shape_);
    tensor_.offset = (*offsets_)[0];
    tensor_.bytes = (*offsets_)[1] - (*offsets_)[0];
    const int64_t elements = element_count(tensor_.shape, file_name_ + ": tensor " + name_);
    const auto element_bytes = static_cast<int64_t>(bytes_of(tensor_.type));
    if (tensor_.bytes % element_bytes != 0 || tensor_.bytes / element_bytes != elements) {
      corrupt(fmt::format("gives tensor {} {} bytes for {} elements of {}", name_, tensor_.bytes, elements,
                          name_of(tensor_.type)));
    }
    header_.tensors.push_back(std::move(tensor_));
  }

  const std::string& file_name_;
  SafetensorsHeader header_;
  std::set<std::string> names_;
  Place place_ = Place::outside;
  std::string name_;  // the last key of the top level
  std::string key_;   // the last key below it
  StoredTensor tensor_;
  std::optional<StoredType> type_;
  std::optional<std::vector<int64_t>> shape_, offsets_;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t data_bytes,
                                           const std::string& file_name) {
  HeaderReader reader(file_name);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  SafetensorsHeader header = reader.take();
  std::sort(header.tensors.begin(), header.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  int64_t end = 0;
  for (const StoredTensor& tensor : header.tensors) {
    if (tensor.offset != end) {
      throw Error(
          ErrorKind::corrupt,
          fmt::format("{}: tensor {} starts at byte {} where {} ends the one before ({})", file_name,
                      tensor.name, tensor.offset, end, tensor.offset < end ? "they overlap" : "a hole"),
          kRemedy);
    }
    if (tensor.bytes > data_bytes - end) {
      throw Error(ErrorKind::corrupt,
                  fmt::format("{}: tensor {} ends at byte {} but the file holds {} bytes of data", file_name,
                              tensor.name, tensor.offset + tensor.bytes, data_bytes),
                  kRemedy);
    }
    end += tensor.bytes;
  }
  if (end != data_bytes) {
    throw Error(ErrorKind::corrupt,
                fmt::format("{} holds {} bytes that no tensor owns", file_name, data_bytes - end), kRemedy);
  }
  return header;
}

}  // namespace fovea
