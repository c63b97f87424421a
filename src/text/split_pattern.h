// The pre-tokenizer's regular expression, run by PCRE2 with Unicode properties, cutting text as the
// "Isolated" behaviour of Hugging Face's Split does: every match and every gap between matches is a piece.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace fovea {

class SplitPattern {
 public:
  // Throws Error(unsupported) when PCRE2 cannot compile the expression.
  explicit SplitPattern(const std::string& expression);
  SplitPattern(SplitPattern&&) noexcept;
  SplitPattern& operator=(SplitPattern&&) noexcept;
  ~SplitPattern();

  // Calls `piece` for every piece in order; together they are the text. Requires: well-formed UTF-8.
  // Throws Error(exhausted) when the expression needs more steps or memory than a sane one does.
  void for_each_piece(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace fovea
