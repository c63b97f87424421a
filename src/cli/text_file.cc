#include "cli/text_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "base/output_file.h"

namespace fovea {

namespace {

std::string read_standard_input() {
  constexpr size_t kMost = size_t{256} << 20;
  std::string text;
  std::vector<char> piece(64 << 10);
  while (const ssize_t count = ::read(STDIN_FILENO, piece.data(), piece.size())) {
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw Error(ErrorKind::io, fmt::format("cannot read standard input: {}", std::strerror(errno)),
                  "check what it comes from");
    }
    text.append(piece.data(), static_cast<size_t>(count));
    if (text.size() > kMost) {
      throw Error(ErrorKind::exhausted, "standard input holds more than 256 MiB of text", "give less text");
    }
  }
  return text;
}

}  // namespace

std::string read_text_file(const std::string& path) {
  if (path == "-") return read_standard_input();
  if (std::filesystem::is_directory(path)) {
    throw Error(ErrorKind::invalid_argument, path + " is a folder", "give a file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorKind::not_found, "cannot open " + path, "check the path");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw Error(ErrorKind::io, "cannot read " + path, "check that it is a readable file");
  return text;
}

void check_writable(const std::string& path) {
  if (!path.empty()) OutputFile probe(path);
}

void write_file(const std::string& path, const std::string& text) {
  OutputFile file(path);
  file.append(text);
  file.finish();
}

}  // namespace fovea
