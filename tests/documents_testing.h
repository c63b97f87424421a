// The documents of the repository as the tests of them read them: their blocks, and the commands in these.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace fovea::documents {

namespace fs = std::filesystem;

inline const fs::path kRepository = FOVEA_SOURCE_DIR;

struct Block {
  std::string document;
  size_t line = 0;   // of its end
  std::string kind;  // what stands behind the fence: sh, text, json, ...; none
  std::string text;
  std::vector<std::string> commands;  // of a block of the kind sh, as the shell reads them
  std::string output;                 // the `text` block behind it, empty: none
};

inline void PrintTo(const Block& block, std::ostream* out) { *out << block.document << ":" << block.line; }

inline std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A line that ends in a backslash is joined with the next one.
inline std::vector<std::string> commands_in(const std::string& text) {
  std::vector<std::string> commands;
  std::istringstream lines(text);
  std::string line, open;
  while (std::getline(lines, line)) {
    if (open.empty() && (line.empty() || line.front() == '#')) continue;
    open += line;
    if (open.ends_with('\\')) {
      open.back() = ' ';
    } else {
      commands.push_back(std::exchange(open, ""));
    }
  }
  return commands;
}

inline std::vector<Block> blocks_of(const fs::path& path) {
  std::vector<Block> blocks;
  std::istringstream lines(read(path));
  std::string line, kind, text;
  for (size_t number = 1; std::getline(lines, line); ++number) {
    if (!line.starts_with("```")) {
      text += line + "\n";
      continue;
    }
    const bool ends = !kind.empty();
    if (ends && kind == "text" && !blocks.empty()) blocks.back().output = text;
    if (ends) {
      blocks.push_back({fs::relative(path, kRepository), number, kind, text, {}, ""});
      if (kind == "sh") blocks.back().commands = commands_in(text);
    }
    kind = ends ? "" : line.size() > 3 ? line.substr(3) : "none";
    text.clear();
  }
  return blocks;
}

// README.md and the pages of the guide: those whose commands are run.
inline std::vector<fs::path> guide_pages() {
  std::vector<fs::path> pages = {kRepository / "README.md"};
  for (const auto& entry : fs::directory_iterator(kRepository / "docs" / "guide")) {
    if (entry.path().extension() == ".md") pages.push_back(entry.path());
  }
  std::sort(pages.begin(), pages.end());
  return pages;
}

// Their blocks of every kind, in order.
inline std::vector<Block> all_blocks() {
  std::vector<Block> all;
  for (const fs::path& page : guide_pages()) {
    const std::vector<Block> blocks = blocks_of(page);
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  return all;
}

}  // namespace fovea::documents
