// The text side of an answer: bytes to characters, stop strings, streaming.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "runtime/stop_strings.h"
#include "text/tokenizer.h"

namespace fovea {

class AnswerText {
 public:
  using Show = std::function<void(std::string_view)>;

  // The tokenizer is borrowed. `show`, if any, gets pieces of whole characters, none of a stop string.
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops, Show show)
      : decoder_(tokenizer), stops_(std::move(stops)), show_(std::move(show)) {}

  void push(int32_t id) { add(stops_.push(decoder_.push(id))); }
  // The whole text, once no more tokens come.
  std::string finish() {
    if (!stops_.stopped()) {
      add(stops_.push(decoder_.finish()));
      add(stops_.finish());
    }
    return std::move(text_);
  }
  bool stopped() const { return stops_.stopped(); }

 private:
  void add(const std::string& piece) {
    if (piece.empty()) return;
    text_ += piece;
    if (show_) show_(piece);
  }

  StreamDecoder decoder_;
  StopStrings stops_;
  Show show_;
  std::string text_;
};

}  // namespace fovea
