#include "checkpoint/safetensors_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/rounding.h"

namespace fovea {
namespace {

int64_t byte_count(const TensorToWrite& tensor) {
  return element_count(tensor.shape, "tensor " + tensor.name) * static_cast<int64_t>(bytes_of(tensor.type));
}

int64_t byte_count(const std::vector<TensorToWrite>& tensors) {
  int64_t bytes = 0;
  for (const TensorToWrite& tensor : tensors) bytes += byte_count(tensor);
  return bytes;
}

}  // namespace

std::string safetensors_header(const std::vector<TensorToWrite>& tensors,
                               const std::map<std::string, std::string>& metadata, int64_t alignment) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    if (header.contains(tensor.name)) {
      throw Error(ErrorKind::invalid_argument, fmt::format("two tensors are called {}", tensor.name),
                  "rename one");
    }
    FOVEA_CHECK(offset % static_cast<int64_t>(bytes_of(tensor.type)) == 0);
    const int64_t end = offset + byte_count(tensor);
    header[tensor.name] = {
        {"dtype", name_of(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::invalid_argument, "a tensor name or metadata value is not UTF-8", "rename it");
  }
  text.resize(static_cast<size_t>(round_up(std::ssize(text) + 8, alignment) - 8), ' ');
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i));
  return length + text;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<TensorToWrite>& tensors,
                                     const std::map<std::string, std::string>& metadata, int64_t alignment)
    : SafetensorsWriter(path, safetensors_header(tensors, metadata, alignment), byte_count(tensors)) {}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const std::string& header,
                                     int64_t data_bytes)
    : file_(path, static_cast<int64_t>(header.size()) + data_bytes), missing_(data_bytes) {
  file_.append(header);
}

void SafetensorsWriter::append(const void* data, int64_t bytes) {
  FOVEA_CHECK(bytes >= 0 && bytes <= missing_);
  file_.append(data, bytes);
  missing_ -= bytes;
}

void SafetensorsWriter::finish() {
  FOVEA_CHECK(missing_ == 0);
  file_.finish();
}

void write_safetensors(const std::filesystem::path& path, std::vector<TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return bytes_of(a.type) > bytes_of(b.type);
  });
  SafetensorsWriter writer(path, tensors, metadata);
  for (const TensorToWrite& tensor : tensors) writer.append(tensor.data, byte_count(tensor));
  writer.finish();
}

}  // namespace fovea
