// Helpers of this folder's tests: temporary folders, raw safetensors bytes, tiny checkpoints.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"

namespace fovea::testing {

// A folder that vanishes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  std::vector<std::string> names() const;  // of the files inside, sorted

 private:
  std::filesystem::path path_;
};

void write_bytes(const std::filesystem::path& path, std::string_view bytes);
std::string read_bytes(const std::filesystem::path& path);

// Length, header as given, `data_bytes` bytes of data.
std::string safetensors_bytes(const std::string& header, size_t data_bytes);

// Configs of one tiny model: 2 vision blocks, 2 text layers, head_dim 16, GQA 2. The nested one is laid out
// as transformers 4.57 saves it, the newest as 5.23.
std::string tiny_flat_config();
std::string tiny_nested_config();
std::string tiny_newest_config();
// `json` with the value at `pointer` ("/vision_config/depth") replaced by the JSON text `value`; an empty
// value removes.
std::string with_field(const std::string& json, const std::string& pointer, const std::string& value);

enum class Era { older, newer };
// Every tensor the config implies, in `dtype`, element i of a tensor being i % 7, under `file_name`.
// `keep` chooses among canonical names.
void write_tiny_weights(const std::filesystem::path& file, const ModelConfig& config, Era era, DType dtype,
                        const std::function<bool(const std::string&)>& keep);
void write_tiny_weights(const std::filesystem::path& file, const ModelConfig& config, Era era, DType dtype);

// Expects `action` to throw Error of that kind whose text holds every one of `words` and a remedy.
void expect_error(ErrorKind kind, const std::vector<std::string>& words, const std::function<void()>& action);

}  // namespace fovea::testing
