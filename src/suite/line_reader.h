// The lines of a JSON Lines file that somebody else wrote.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace fovea {

// Never holds more of a line than a bound. For one thread.
class LineReader {
 public:
  // Throws Error(not_found) when the file cannot be opened, Error(invalid_argument) for a folder; `remedy`
  // says which name to check.
  LineReader(const std::filesystem::path& path, int64_t max_bytes, const std::string& remedy);

  enum class Result { line, too_long, end };
  // Without the line's end, and the first line without a byte order mark. A line that is too long is read
  // past; `line` is empty then.
  Result next(std::string& line);
  int64_t number() const { return number_; }  // of the last line, counted from 1
  // Whether the last line had its line break: a file whose writer was killed may end within a line.
  bool ended() const { return ended_; }

 private:
  std::filesystem::path path_;
  std::ifstream file_;
  size_t max_bytes_;
  int64_t number_ = 0;
  bool ended_ = false;
};

bool is_blank(const std::string& line);

}  // namespace fovea
