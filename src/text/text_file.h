// Reading the small text files of a checkpoint, whole and with a bound.
#pragma once

#include <filesystem>
#include <string>

namespace fovea {

// Throws Error(not_found | io | exhausted) naming the file.
std::string read_text_file(const std::filesystem::path& path);

}  // namespace fovea
