#include "suite/reader.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "suite/line_reader.h"

namespace fovea {

namespace {

namespace fs = std::filesystem;

class SuiteBuilder {
 public:
  SuiteBuilder(std::string source, int64_t max_line_bytes) : max_line_bytes_(max_line_bytes) {
    suite_.source = std::move(source);
  }

  void read_file(const fs::path& path) {
    LineReader lines(path, max_line_bytes_, "check the path of the suite");
    std::string line;
    for (auto result = lines.next(line); result != LineReader::Result::end; result = lines.next(line)) {
      if (result == LineReader::Result::too_long) {
        ++suite_.lines;
        add_problem(
            path, lines.number(), "",
            Error(ErrorKind::exhausted, fmt::format("the line is longer than {} bytes", max_line_bytes_),
                  "store pictures as files and give their paths"));
        continue;
      }
      if (!is_blank(line)) read_line(path, lines.number(), line);
    }
  }

  Suite finish() {
    if (!suite_.items.empty()) return std::move(suite_);
    const std::string first =
        suite_.problems.empty()
            ? "it holds no record"
            : fmt::format("the first of {} problems: {}:{}: {}", suite_.problems.size(),
                          suite_.problems[0].file, suite_.problems[0].line, suite_.problems[0].message);
    throw Error(ErrorKind::invalid_argument,
                fmt::format("no question of {} can be used; {}", suite_.source, first),
                suite_.problems.empty() ? "write one JSON object a line" : suite_.problems[0].remedy);
  }

 private:
  void read_line(const fs::path& path, int64_t number, const std::string& line) {
    ++suite_.lines;
    SuiteItem item;
    item.file = path.string();
    item.line = number;
    try {
      parse_suite_item(line, path.parent_path(), item);
      if (!ids_.insert(item.id).second) {
        throw Error(ErrorKind::invalid_argument, fmt::format("id \"{}\" is there already", item.id),
                    "give every record an id of its own");
      }
      suite_.items.push_back(std::move(item));
    } catch (const Error& error) {
      add_problem(path, number, item.id, error);
    }
  }

  void add_problem(const fs::path& path, int64_t line, const std::string& id, const Error& error) {
    suite_.problems.push_back({path.string(), line, id, error.message(), error.remedy()});
  }

  int64_t max_line_bytes_;
  Suite suite_;
  std::set<std::string> ids_;
};

std::vector<fs::path> files_of(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return {path};
  if (fs::exists(path / "suite.jsonl", ignored)) return {path / "suite.jsonl"};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  }
  if (files.empty()) {
    for (const auto& entry : fs::directory_iterator(path, ignored)) {
      if (fs::exists(entry.path() / "suite.jsonl", ignored)) files.push_back(entry.path() / "suite.jsonl");
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    throw Error(ErrorKind::not_found, fmt::format("{} holds no *.jsonl file and no suite", path.string()),
                "give the JSON Lines file of the suite, or the folder that `fovea suite make` wrote");
  }
  return files;
}

}  // namespace

Suite read_suite(const fs::path& path, int64_t max_line_bytes) {
  SuiteBuilder builder(path.string(), max_line_bytes);
  for (const fs::path& file : files_of(path)) builder.read_file(file);
  return builder.finish();
}

}  // namespace fovea
