#include "scratch.h"

#include <stdlib.h>

#include <fstream>
#include <string>

#include "target.h"

namespace fovea::fuzz {

namespace fs = std::filesystem;

Scratch::Scratch() {
  std::string name = (fs::temp_directory_path() / "fovea_fuzz_XXXXXX").string();
  require(mkdtemp(name.data()) != nullptr, "a folder can be made for the inputs");
  path_ = name;
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path Scratch::write(std::string_view name, std::string_view bytes) const {
  fs::path file = path_ / name;
  std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return file;
}

void Scratch::remove(std::string_view name) const { fs::remove(path_ / name); }

std::vector<std::string_view> pieces(std::string_view bytes) {
  constexpr std::string_view kBetween = "\n%%\n";
  std::vector<std::string_view> list;
  for (size_t end = bytes.find(kBetween); end != std::string_view::npos; end = bytes.find(kBetween)) {
    list.push_back(bytes.substr(0, end));
    bytes.remove_prefix(end + kBetween.size());
  }
  list.push_back(bytes);
  return list;
}

}  // namespace fovea::fuzz
