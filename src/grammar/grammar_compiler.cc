#include "grammar/grammar_compiler.h"

#include <algorithm>

#include "base/field_error.h"
#include "grammar/schema_rules.h"

namespace fovea {

namespace {

void finish(Automaton& automaton, int32_t rule, const std::string& where) {
  bool any = false;
  try {
    any = automaton.finish(rule);
  } catch (const FieldError&) {
    throw;
  } catch (const Error& error) {
    throw FieldError(error.kind(), where, "cannot be followed: " + error.message(), error.remedy());
  }
  if (any && automaton.node(automaton.start(rule)).need <= kDeepestStack / 2) return;
  throw FieldError(ErrorKind::invalid_argument, where,
                   any ? "admits only values that are nested too deep" : "admits no value at all",
                   "look for bounds, enums or required properties that contradict each other");
}

Automaton automaton_of_schema(std::string_view schema, const std::string& where) {
  const SchemaDocument document(schema, where);
  Automaton automaton;
  JsonRules rules(automaton);
  int32_t root = 0;
  try {
    root = SchemaRules(document, rules).root();
  } catch (const FieldError&) {
    throw;
  } catch (const Error& error) {
    throw FieldError(error.kind(), where, "cannot be followed: " + error.message(), error.remedy());
  }
  finish(automaton, root, where);
  return automaton;
}

int32_t arguments_rule(const ToolSignature& tool, JsonRules& rules) {
  if (tool.parameters.empty()) return rules.any_object();
  const SchemaDocument document(tool.parameters, tool.where);
  SchemaMerge merge(document);
  const SchemaJson object =
      merge.merged({{"type", "object"}}, merge.flat(document.root(), tool.where), tool.where);
  return SchemaRules(document, rules).rule_of(object, tool.where);
}

Automaton automaton_of_calls(std::span<const ToolSignature> tools, bool several) {
  if (tools.empty()) throw Error(ErrorKind::invalid_argument, "there is no tool to call", "state one");
  Automaton automaton;
  JsonRules rules(automaton);
  const int32_t start = automaton.add_node(), behind = automaton.add_node(true);
  for (const ToolSignature& tool : tools) {
    const std::string head = "<tool_call>\n{\"name\": " + json_string(tool.name) + ", \"arguments\": ";
    const int32_t arguments = automaton.on_text(start, head.c_str()), tail = automaton.add_node();
    automaton.on_call(arguments, arguments_rule(tool, rules), tail);
    automaton.on_nothing(automaton.on_text(tail, "}\n</tool_call>"), behind);
  }
  if (several) automaton.on_byte(behind, '\n', '\n', start);
  finish(automaton, automaton.add_rule(start), "tools");
  return automaton;
}

}  // namespace

std::shared_ptr<const TokenTrie> GrammarCompiler::trie() {
  const std::lock_guard lock(mutex_);
  if (!trie_) trie_ = std::make_shared<const TokenTrie>(tokenizer_);
  return trie_;
}

// Two threads may make the same at once; then one of them is kept.
GrammarCompiler::Made GrammarCompiler::kept_or(const std::string& key,
                                               const std::function<Automaton()>& make) {
  const auto find = [&]() -> Made {
    const auto known =
        std::find_if(made_.begin(), made_.end(), [&](const auto& one) { return one.first == key; });
    if (known == made_.end()) return nullptr;
    auto entry = std::move(*known);
    made_.erase(known);
    made_.push_front(std::move(entry));
    return made_.front().second;
  };
  {
    const std::lock_guard lock(mutex_);
    if (Made known = find()) return known;
  }
  auto made = std::make_shared<const Grammar>(make(), trie());
  const std::lock_guard lock(mutex_);
  if (Made known = find()) return known;
  made_.emplace_front(key, made);
  if (made_.size() > kKept) made_.pop_back();
  return made;
}

std::shared_ptr<const Grammar> GrammarCompiler::json_object() {
  return kept_or("object", [] {
    Automaton automaton;
    const int32_t rule = JsonRules(automaton).any_object();
    finish(automaton, rule, "json_object");
    return automaton;
  });
}

std::shared_ptr<const Grammar> GrammarCompiler::json_schema(std::string_view schema,
                                                            const std::string& where) {
  return kept_or("schema " + std::string(schema), [&] { return automaton_of_schema(schema, where); });
}

std::shared_ptr<const Grammar> GrammarCompiler::tool_calls(std::span<const ToolSignature> tools,
                                                           bool several) {
  std::string key = several ? "calls" : "call";
  for (const ToolSignature& tool : tools) {
    key += fmt::format(" {} {} {} {}", tool.name.size(), tool.name, tool.parameters.size(), tool.parameters);
  }
  return kept_or(key, [&] { return automaton_of_calls(tools, several); });
}

}  // namespace fovea
