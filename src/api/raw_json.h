// Parts of a JSON text as they were written, found without building anything: what must keep its order of
// keys is parsed again from its own text.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace fovea {

// Requires: valid JSON. Nothing where `object` is no object or does not have the key.
std::optional<std::string_view> raw_member(std::string_view object, std::string_view key);
// Requires: valid JSON. Nothing where `array` is no list.
std::vector<std::string_view> raw_elements(std::string_view array);

}  // namespace fovea
