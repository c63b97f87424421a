// Finds added tokens in text: leftmost, and the longest of those that begin at one place.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_definition.h"

namespace fovea {

class AddedTokenFinder {
 public:
  // Looks for these tokens only; order does not matter.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  // Calls `token` and `plain` in order; empty plain texts are left out. Requires: well-formed UTF-8.
  void cut(std::string_view text, const std::function<void(int32_t)>& token,
           const std::function<void(std::string_view)>& plain) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;                // by first byte, then longest first
  std::array<uint32_t, 257> first_byte_begin_{};  // tokens that begin with byte b: [b, b + 1)
};

}  // namespace fovea
