// The output of a batch: one line for each line of the input, in OpenAI's form and in the order in which they
// end,
//   {"id": ..., "custom_id": ..., "response": {"status_code": ..., "request_id": ..., "body": {...}},
//   "error": null}
// and how a run that was ended goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "api/batch_input.h"

namespace fovea {

// `body`: a chat.completion (api/chat_response.h).
nlohmann::ordered_json batch_answer(const BatchLine& line, nlohmann::ordered_json body);
// A refusal or whatever else went wrong, as the server would answer it: status and error object
// (api/error_object.h), whose message begins with the line's number. custom_id is null where the line has
// none.
nlohmann::ordered_json batch_failure(const BatchLine& line, const Error& error);

// What stands in the file already is gone through when it is opened:
// - an answer (status 200) is kept, and completed() knows it;
// - everything else is tried again, for what failed may be mended by now (a missing picture, too little
// memory) and
//   what is refused is refused quickly: those lines are taken out;
// - a last line without its line break, as a kill leaves it, is taken out;
// - a line that is no output of a batch, or an answer to another request (its line was edited or removed,
// another
//   checkpoint or precision) throws Error(invalid_argument): nothing is removed that cannot be made again.
// Lines are taken out by writing the file anew beside it. A pipe or device is only written to. For one
// thread.
class BatchOutput {
 public:
  // `ids`: BatchSurvey::ids. The file is made where it is missing, and locked against other processes. Throws
  // Error(io | exhausted | invalid_argument).
  BatchOutput(std::filesystem::path path, const std::map<std::string, std::string>& ids);
  ~BatchOutput();
  BatchOutput(const BatchOutput&) = delete;
  BatchOutput& operator=(const BatchOutput&) = delete;

  const std::set<std::string>& completed() const { return completed_; }  // custom_ids, as the file was opened
  // Adds a line at once; a kill may leave a part of it, a full disk (Error(exhausted)) leaves none.
  void append(const nlohmann::ordered_json& line);

 private:
  void resume(const std::map<std::string, std::string>& ids);
  bool is_kept(const std::string& text, int64_t number, const std::map<std::string, std::string>& ids);
  void rewrite(const std::set<int64_t>& kept);
  void open();

  std::filesystem::path path_;
  std::set<std::string> completed_;
  int file_ = -1;
  int64_t bytes_ = 0;  // written so far; -1 where nothing can be taken back
};

}  // namespace fovea
