// Calls of tools in an answer of Qwen2.5's form, read as the answer comes:
//   text <tool_call>\n{"name": "...", "arguments": {...}}\n</tool_call>\n<tool_call> ...
// The pieces depend on the whole text alone once they are put together, not on how it was cut.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace fovea {

class ToolCallReader {
 public:
  struct Events {
    std::function<void(std::string_view)> content;                      // words that are no call
    std::function<void(int64_t index, const std::string& name)> begin;  // a call
    std::function<void(int64_t index, std::string_view piece)>
        arguments;  // of its JSON, as the model wrote it
  };
  explicit ToolCallReader(Events events) : events_(std::move(events)) {}

  void push(std::string_view text);
  // The answer has ended. A call that did not come to its arguments is words.
  void finish();
  int64_t calls() const { return calls_; }

 private:
  enum class State { words, head, arguments, tail };
  bool advance();
  bool read_words();
  bool read_head();
  bool read_arguments();
  bool read_tail();
  void say(std::string_view words);
  bool take_whole_call(std::string_view body);
  void begin(const std::string& name);

  Events events_;
  State state_ = State::words;
  std::string rest_;   // not yet dealt with
  std::string space_;  // white space that may stand before a call; dropped there
  int64_t calls_ = 0;
  int depth_ = 0;  // of brackets in the arguments
  bool in_string_ = false, escaped_ = false;
};

}  // namespace fovea
