// What form an answer must have: response_format, tools and tool_choice of a request.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/request_fields.h"
#include "grammar/grammar_compiler.h"

namespace fovea {

struct ChatTool {
  std::string name;
  std::string json;        // the whole entry of "tools" on one line, as python_json() writes it
  std::string parameters;  // the schema of its arguments; empty: any object
};

struct AnswerForm {
  enum class Kind { text, json_object, json_schema, tool_calls };
  Kind kind = Kind::text;
  std::string schema;                // of json_schema; empty: any object
  std::vector<ToolSignature> tools;  // that must be called; with tool_calls
  bool several_calls = false;
};

inline constexpr size_t kMostTools = 128;
inline constexpr size_t kMaxToolBytes = size_t{1} << 20;  // of all together

// `text`: what the body was parsed from, for the order of keys; empty: then keys are in the order of their
// names. Tools are those that the model is shown: none with tool_choice "none". Throw FieldError naming the
// field.
std::vector<ChatTool> read_tools(const RequestFields& body, std::string_view text);
AnswerForm read_answer_form(const RequestFields& body, std::string_view text,
                            const std::vector<ChatTool>& tools);

// Null where the form is free. Throws as GrammarCompiler does: a schema is first looked at here.
std::shared_ptr<const Grammar> grammar_of(const AnswerForm& form, GrammarCompiler& compiler);

}  // namespace fovea
