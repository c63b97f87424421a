// Lines that a person types: edited and remembered at a terminal, read as they are from a pipe or a file.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace fovea {

class LineEditor {
 public:
  // At a terminal the history of earlier runs is read from $XDG_STATE_HOME/fovea/chat_history (~/.local/state
  // without it), and written there, readable by the user alone; where that cannot be, there is none.
  LineEditor();
  LineEditor(const LineEditor&) = delete;
  ~LineEditor();

  bool at_terminal() const { return editor_ != nullptr; }
  // Without its line break; nothing at the end of the input. A line that Ctrl-C gave up is empty.
  std::optional<std::string> read(const std::string& prompt);

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null: standard input is no terminal
};

}  // namespace fovea
