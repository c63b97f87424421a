// GGUF files written for tests: value by value, and as wrongly as a test wants.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/block_format.h"

namespace fovea::testing {

// ggml's numbers of the types that tests write.
inline constexpr uint32_t kGgmlF32 = 0, kGgmlF16 = 1, kGgmlBf16 = 30;
inline uint32_t ggml_number(BlockFormat format) {
  constexpr uint32_t kNumbers[] = {2, 3, 6, 7, 8, 12, 13, 14, 20, 23};
  return kNumbers[static_cast<size_t>(format)];
}

class GgufBuilder {
 public:
  // What is written whatever follows; a test may change it.
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32, extra_tensors = 0, extra_keys = 0;

  GgufBuilder& text(std::string_view key, std::string_view value) {
    begin(key, 8);
    put_text(keys_, value);
    return *this;
  }
  GgufBuilder& u32(std::string_view key, uint32_t value) {
    begin(key, 4);
    put(keys_, value);
    return *this;
  }
  GgufBuilder& f32(std::string_view key, float value) {
    begin(key, 6);
    put(keys_, value);
    return *this;
  }
  GgufBuilder& boolean(std::string_view key, bool value) {
    begin(key, 7);
    put(keys_, static_cast<uint8_t>(value));
    return *this;
  }
  GgufBuilder& texts(std::string_view key, const std::vector<std::string>& values) {
    begin_array(key, 8, values.size());
    for (const std::string& value : values) put_text(keys_, value);
    return *this;
  }
  GgufBuilder& i32s(std::string_view key, const std::vector<int64_t>& values) {
    begin_array(key, 5, values.size());
    for (const int64_t value : values) put(keys_, static_cast<int32_t>(value));
    return *this;
  }
  GgufBuilder& f32s(std::string_view key, const std::vector<double>& values) {
    begin_array(key, 6, values.size());
    for (const double value : values) put(keys_, static_cast<float>(value));
    return *this;
  }
  // A key of any type with any bytes behind it.
  GgufBuilder& raw(std::string_view key, uint32_t type, std::string_view bytes) {
    begin(key, type);
    keys_ += bytes;
    return *this;
  }
  // Shape as everywhere here, slowest first.
  GgufBuilder& tensor(std::string_view name, uint32_t type, const std::vector<int64_t>& shape,
                      std::string_view bytes) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    tensor_at(name, type, shape, data_.size());
    data_ += bytes;
    return *this;
  }
  // The same without bytes of its own.
  GgufBuilder& tensor_at(std::string_view name, uint32_t type, const std::vector<int64_t>& shape,
                         uint64_t offset) {
    put_text(infos_, name);
    put(infos_, static_cast<uint32_t>(shape.size()));
    for (size_t i = shape.size(); i-- > 0;) put(infos_, static_cast<uint64_t>(shape[i]));
    put(infos_, type);
    put(infos_, offset);
    ++tensors_;
    return *this;
  }

  std::string bytes() const {
    std::string all = magic;
    put(all, version);
    put(all, tensors_ + extra_tensors);
    put(all, count_ + extra_keys);
    all += keys_ + infos_;
    all.resize((all.size() + alignment - 1) / alignment * alignment);
    return all + data_;
  }

 private:
  template <typename T>
  static void put(std::string& to, T value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void put_text(std::string& to, std::string_view text) {
    put(to, uint64_t{text.size()});
    to += text;
  }
  void begin(std::string_view key, uint32_t type) {
    put_text(keys_, key);
    put(keys_, type);
    ++count_;
  }
  void begin_array(std::string_view key, uint32_t type, size_t count) {
    begin(key, 9);
    put(keys_, type);
    put(keys_, uint64_t{count});
  }

  std::string keys_, infos_, data_;
  uint64_t count_ = 0, tensors_ = 0;
};

}  // namespace fovea::testing
