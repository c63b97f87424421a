// One question of a suite: a conversation, the answers that count as right, and how that is decided.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "suite/scoring.h"
#include "text/message.h"

namespace fovea {

struct SuiteItem {
  std::string id;
  std::vector<Message> messages;     // pictures as absolute paths or data: URLs
  std::vector<std::string> answers;  // any one of them is right
  MatchRule match = MatchRule::normalized;
  std::vector<std::pair<std::string, std::string>> tags;  // a list's entries have an empty value
  uint64_t record_hash = 0;                               // of all that was written
  std::string file;                                       // where it stands
  int64_t line = 0;                                       // counted from 1
};

// Parses one line:
//   {"id": "q1", "messages": [...], "answer": "7" | ["7", "seven"], "match": "normalized", "tags": {...} |
//   [...]}
// `match` and `tags` may be missing; other fields are ignored, they are the author's notes. Relative paths of
// pictures are taken from `folder`. Throws Error naming the field: not an object, no conversation, an answer
// that is no string or that its rule could never accept, a picture that does not exist. `item` then holds
// what was read before, so that a report can name the id.
void parse_suite_item(std::string_view json, const std::filesystem::path& folder, SuiteItem& item);

// The id of a record: its string, or its integer as text. Throws Error(invalid_argument). Requires: an
// object.
std::string record_id(const nlohmann::json& record);

}  // namespace fovea
