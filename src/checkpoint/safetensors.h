// The safetensors format: a little-endian u64 header length, a JSON header, then the tensors without gaps.
// All bytes are untrusted: https://github.com/huggingface/safetensors#format states the rules checked here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace fovea {

// The element types fovea reads: weights are f32, bf16 or f16, the others occur in quantized weights and in
// data files.
enum class StoredType : uint8_t { f64, f32, bf16, f16, i64, i32, i8, u8 };

size_t bytes_of(StoredType type);
// "F32", "BF16", ...: the names in the file.
const char* name_of(StoredType type);
// Throws Error(unsupported) for types no weight may have.
DType weight_dtype(StoredType type, const std::string& tensor_name);
StoredType stored_type(DType type);

// The number of elements of `shape`. Throws Error(corrupt) naming `what` on a negative size or an overflow.
int64_t element_count(const std::vector<int64_t>& shape, const std::string& what);

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of the first byte, from the end of the header
  int64_t bytes = 0;
  const void* data = nullptr;  // aligned to the element size; borrowed from the file's mapping

  // The elements as T, whose size is checked against the type's.
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(checked(sizeof(T)));
  }

 private:
  const void* checked(size_t element_bytes) const;
};

class SafetensorsFile {
 public:
  // Maps the file and checks its header. Throws Error(corrupt | unsupported | not_found | io) naming the
  // file.
  static SafetensorsFile open(const std::filesystem::path& path);

  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;
  ~SafetensorsFile();

  const std::filesystem::path& path() const;
  const std::vector<StoredTensor>& tensors() const;  // in file order
  const std::map<std::string, std::string>& metadata() const;
  const StoredTensor* find(std::string_view name) const;  // nullptr when absent
  // Throws Error(not_found) naming file and tensor.
  const StoredTensor& tensor(std::string_view name) const;

  int64_t bytes() const;
  int64_t header_bytes() const;  // before the first tensor's
  // Brings every page into memory in file order; done(bytes so far) is called from this thread.
  void read_ahead(const std::function<void(int64_t)>& done) const;
  void drop_pages() const;

 private:
  struct State;
  explicit SafetensorsFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fovea
