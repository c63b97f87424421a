// Writing safetensors: whole tensors at once, or streamed in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/output_file.h"
#include "checkpoint/safetensors.h"

namespace fovea {

struct TensorToWrite {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
  const void* data = nullptr;  // borrowed; SafetensorsWriter does not read it
};

// What stands before the data of a file with these tensors in this order: its length and JSON, padded so that
// the data begins at a multiple of `alignment` bytes.
std::string safetensors_header(const std::vector<TensorToWrite>& tensors,
                               const std::map<std::string, std::string>& metadata, int64_t alignment = 8);

// Writes the tensors under `path`, which appears complete or not at all. Throws Error(exhausted | io), and
// Error(invalid_argument) for two tensors of one name.
void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata);

// The streaming form: the bytes of all tensors are appended in the order stated. That order must keep each
// tensor aligned to its element size, as any order of equal types, or of falling element size, does.
// The first begins at a multiple of `alignment` bytes in the file, itself a multiple of 8.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                    const std::map<std::string, std::string>& metadata, int64_t alignment = 8);
  void append(const void* data, int64_t bytes);
  // Requires every byte of every tensor to have been appended.
  void finish();

 private:
  SafetensorsWriter(const std::filesystem::path& path, const std::string& header, int64_t data_bytes);
  OutputFile file_;
  int64_t missing_ = 0;
};

}  // namespace fovea
