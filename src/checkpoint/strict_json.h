// JSON of untrusted files: size, nesting and duplicate keys are checked before anything grows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fovea {

inline constexpr int64_t kMaxJsonBytes = int64_t{16} << 20;
inline constexpr int kMaxJsonDepth = 32;

// Throws Error(corrupt) naming `file_name` for anything that is not one JSON object, and Error(exhausted)
// beyond the limits above.
nlohmann::json parse_json_object(std::string_view text, const std::string& file_name,
                                 int64_t max_bytes = kMaxJsonBytes);

// The text of a JSON file of at most kMaxJsonBytes. Throws Error(not_found | io | exhausted).
std::string read_json_text(const std::filesystem::path& path);

}  // namespace fovea
