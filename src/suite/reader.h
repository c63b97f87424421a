// Reading a suite: every line that cannot be used becomes a problem with its place and a remedy; the rest is
// used.
#pragma once

#include "suite/record.h"

namespace fovea {

struct SuiteProblem {
  std::string file;
  int64_t line = 0;  // 0: not known
  std::string id;    // empty: the line did not get that far
  std::string message, remedy;
};

struct Suite {
  std::string source;  // as named by the user
  int64_t lines = 0;   // records met, good and bad; blank lines do not count
  std::vector<SuiteItem> items;
  std::vector<SuiteProblem> problems;
};

inline constexpr int64_t kMaxSuiteLineBytes = int64_t{64} << 20;

// `path`: a JSON Lines file; or a folder, meaning its suite.jsonl or, without one, every *.jsonl in it or,
// without those, the suite.jsonl of every folder in it, in the order of their names. Lines longer than
// `max_line_bytes` are problems and are never held in memory. Throws Error(not_found | io) for a path that
// cannot be read, and Error(invalid_argument) when no record at all is usable.
Suite read_suite(const std::filesystem::path& path, int64_t max_line_bytes = kMaxSuiteLineBytes);

}  // namespace fovea
