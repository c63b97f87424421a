// Whole files that commands read and write; every failure is an Error naming the file.
#pragma once

#include <string>

namespace fovea {

// "-" reads standard input. Throws Error(not_found | io).
std::string read_text_file(const std::string& path);

// A file that cannot be written is better known before the work than after it. Removes what it creates; an
// empty path is no file.
void check_writable(const std::string& path);
// In one piece or not at all.
void write_file(const std::string& path, const std::string& text);

}  // namespace fovea
