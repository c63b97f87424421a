// The JSON header of a safetensors file, parsed without building a tree, so that a hostile one costs no more
// memory than its own size allows.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace fovea {

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;  // sorted by offset; data pointers not yet set
  std::map<std::string, std::string> metadata;
};

// `data_bytes` is what follows the header in the file; the tensors must fill it exactly, without overlap or
// hole. Throws Error(corrupt | unsupported | exhausted) naming `file_name` and the tensor.
SafetensorsHeader parse_safetensors_header(std::string_view json, int64_t data_bytes,
                                           const std::string& file_name);

}  // namespace fovea
