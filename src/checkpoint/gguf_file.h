// The GGUF container of llama.cpp: a little-endian header of keys with values and of tensors, then the
// tensors' bytes (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). All bytes are untrusted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/block_format.h"
#include "base/dtype.h"

namespace fovea {

struct GgufTensor {
  std::string name;
  DType dtype = DType::f32;  // f32, f16 or bf16 unless in blocks
  std::optional<BlockFormat> blocks;
  std::vector<int64_t>
      shape;           // slowest dimension first, as everywhere here; the file writes the fastest first
  int64_t offset = 0;  // of the first byte in the file
  int64_t bytes = 0;
  const void* data =
      nullptr;  // borrowed from the mapping, aligned to what general.alignment says, 8 at least

  // "F16", "Q4_K": the names in llama.cpp.
  const char* type_name() const;
};

// A read-only view of a file's values by key. Getters return nothing when the key is absent and throw
// Error(corrupt) naming file and key when its value has another type.
class GgufFile {
 public:
  // Maps the file and checks its header: everything lies in bounds, no key or tensor occurs twice, no tensors
  // overlap, every type is one that fovea reads. Throws Error(corrupt | unsupported | not_found | io |
  // exhausted) naming the file.
  static GgufFile open(const std::filesystem::path& path);

  GgufFile(GgufFile&&) noexcept;
  GgufFile& operator=(GgufFile&&) noexcept;
  ~GgufFile();

  const std::filesystem::path& path() const;
  const std::vector<GgufTensor>& tensors() const;  // in the order of the header
  const GgufTensor* find(std::string_view name) const;

  std::vector<std::string> keys() const;  // sorted
  bool has(const std::string& key) const;
  std::optional<std::string_view> string(const std::string& key) const;  // a view of the mapping
  std::optional<int64_t> integer(const std::string& key) const;          // of any width
  // Of either width, or an integer. What the file has in 32 bits comes as the double of its shortest decimal:
  // 1e-6, not 9.99999997e-7.
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::vector<int64_t> integers(const std::string& key) const;  // an array; empty when absent
  std::vector<double> numbers(const std::string& key) const;
  // The strings of an array one by one, as views of the mapping; returns how many.
  int64_t each_string(const std::string& key, const std::function<void(std::string_view)>& take) const;

  int64_t bytes() const;
  void read_ahead(const std::function<void(int64_t)>& done) const;
  void drop_pages() const;

 private:
  struct State;
  explicit GgufFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace fovea
