// The header of a GGUF file, read and checked.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/gguf_file.h"

namespace fovea {

// The types of values, numbered as in the file.
enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

// A value where it lies in the file: `count` elements of `type` from `at` on, one unless it is an array.
struct GgufValue {
  GgufType type = GgufType::u8;
  bool is_array = false;
  int64_t count = 1;
  const char* at = nullptr;
};

struct GgufHeader {
  std::map<std::string, GgufValue, std::less<>> values;
  std::vector<GgufTensor> tensors;
};

// `bytes`: the whole file. Nothing is copied but keys and names. Throws Error naming `file`, the path.
GgufHeader parse_gguf_header(std::string_view bytes, const std::string& file);

// The string at `at`, which parse_gguf_header has found to be in bounds, and the place behind it.
std::string_view gguf_string(const char*& at);

}  // namespace fovea
