// Grammars for the tokens of one tokenizer: any JSON object, a JSON schema, calls of tools.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "grammar/grammar.h"

namespace fovea {

struct ToolSignature {
  std::string name;
  std::string parameters;  // a JSON schema; empty: any object
  std::string where;       // what errors call the schema
};

// Any thread. Grammars that were made lately are kept; the trie is made when it is first needed.
class GrammarCompiler {
 public:
  static constexpr size_t kKept = 16;

  // The tokenizer is borrowed, until the last grammar is made.
  explicit GrammarCompiler(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  std::shared_ptr<const Grammar> json_object();
  // `where` is what errors call the schema. Throws FieldError(invalid_argument | unsupported | exhausted)
  // naming the keyword and its place, and Error(unsupported) where the vocabulary cannot write every byte.
  std::shared_ptr<const Grammar> json_schema(std::string_view schema, const std::string& where);
  // <tool_call>
  // {"name": "...", "arguments": {...}}
  // </tool_call>
  // as Qwen2.5's template shows it, of one of the tools; with `several`, more of them may follow, each on a
  // new line. Throws as json_schema(); Error(invalid_argument) without tools.
  std::shared_ptr<const Grammar> tool_calls(std::span<const ToolSignature> tools, bool several);

 private:
  using Made = std::shared_ptr<const Grammar>;
  Made kept_or(const std::string& key, const std::function<Automaton()>& make);
  std::shared_ptr<const TokenTrie> trie();

  const Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::shared_ptr<const TokenTrie> trie_;
  std::deque<std::pair<std::string, Made>> made_;  // the one used last in front
};

}  // namespace fovea
