#include "cli/line_editor.h"

#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <clocale>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "cli/interrupt.h"

namespace fovea {

namespace {

constexpr int kLinesRemembered = 1000;

// Empty where there is no place for it.
std::filesystem::path history_file() {
  const char *state = std::getenv("XDG_STATE_HOME"), *home = std::getenv("HOME");
  std::filesystem::path folder;
  if (state != nullptr && *state != '\0') {
    folder = state;
  } else if (home != nullptr && *home != '\0') {
    folder = std::filesystem::path(home) / ".local" / "state";
  } else {
    return {};
  }
  std::error_code failed;
  std::filesystem::create_directories(folder / "fovea", failed);
  return failed ? std::filesystem::path() : folder / "fovea" / "chat_history";
}

}  // namespace

struct LineEditor::Editor {
  Editor() : lines(history_init()), line(el_init("fovea", stdin, stderr, stderr)), file(history_file()) {
    history(lines, &event, H_SETSIZE, kLinesRemembered);
    history(lines, &event, H_SETUNIQUE, 1);
    if (!file.empty()) history(lines, &event, H_LOAD, file.c_str());
    el_set(line, EL_CLIENTDATA, this);
    el_set(line, EL_PROMPT, prompt_of);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_HIST, history, lines);
    el_source(line, nullptr);  // the user's own ~/.editrc
  }
  ~Editor() {
    if (!file.empty()) {
      const mode_t before = umask(077);
      history(lines, &event, H_SAVE, file.c_str());
      umask(before);
    }
    el_end(line);
    history_end(lines);
  }
  static char* prompt_of(EditLine* of) {
    Editor* self = nullptr;
    el_get(of, EL_CLIENTDATA, &self);
    return self->prompt.data();
  }

  HistEvent event;
  History* lines;
  EditLine* line;
  std::filesystem::path file;
  std::string prompt;
};

LineEditor::LineEditor() {
  if (isatty(STDIN_FILENO) == 0) return;
  std::setlocale(LC_CTYPE, "");  // how many bytes a character has
  editor_ = std::make_unique<Editor>();
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  std::string text;
  if (!editor_) {
    if (!std::getline(std::cin, text)) return std::nullopt;
    return text;
  }
  editor_->prompt = prompt;
  int count = 0;
  const char* line = el_gets(editor_->line, &count);
  if (line == nullptr || count <= 0) {
    if (!interrupted()) return std::nullopt;  // Ctrl-D
    el_reset(editor_->line);
    return text;
  }
  text.assign(line, static_cast<size_t>(count));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (!text.empty()) history(editor_->lines, &editor_->event, H_ENTER, text.c_str());
  return text;
}

}  // namespace fovea
