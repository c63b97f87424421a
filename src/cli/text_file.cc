#include "cli/text_file.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "base/error.h"
#include "base/output_file.h"

namespace fovea {

std::string read_text_file(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
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
