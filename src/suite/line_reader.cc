#include "suite/line_reader.h"

#include "base/error.h"

namespace fovea {

LineReader::LineReader(const std::filesystem::path& path, int64_t max_bytes, const std::string& remedy)
    : path_(path), file_(path, std::ios::binary), max_bytes_(static_cast<size_t>(max_bytes)) {
  if (!file_) throw Error(ErrorKind::not_found, "cannot open " + path.string(), remedy);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw Error(ErrorKind::invalid_argument, path.string() + " is a folder", remedy);
}

LineReader::Result LineReader::next(std::string& line) {
  line.clear();
  ++number_;
  ended_ = false;
  bool too_long = false, any = false;
  std::streambuf* bytes = file_.rdbuf();
  for (int c = bytes->sbumpc(); c != std::char_traits<char>::eof(); c = bytes->sbumpc()) {
    any = true;
    if (c == '\n') {
      ended_ = true;
      break;
    }
    if (line.size() >= max_bytes_) {
      too_long = true;
      line.clear();
      line.shrink_to_fit();
    }
    if (!too_long) line.push_back(static_cast<char>(c));
  }
  if (!any) return Result::end;
  if (too_long) return Result::too_long;
  if (number_ == 1 && line.starts_with("\xef\xbb\xbf")) line.erase(0, 3);
  return Result::line;
}

bool is_blank(const std::string& line) { return line.find_first_not_of(" \t\r\n") == std::string::npos; }

}  // namespace fovea
