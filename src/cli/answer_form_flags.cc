#include "cli/answer_form_flags.h"

#include "cli/text_file.h"
#include "grammar/grammar_compiler.h"
#include "runtime/constraint.h"

namespace fovea {

namespace {

constexpr const char* kGroup = "Form of the answer";

bool is_schema(const std::string& value) {
  const size_t first = value.find_first_not_of(" \t\r\n");
  return first != std::string::npos && (value[first] == '{' || value == "true");
}

}  // namespace

void AnswerFormFlags::add_to(CLI::App& command) {
  CLI::Option* schema = command.add_option(
      "-j,--json-schema", json_schema,
      "the answer is JSON that follows this JSON schema: a file, - for standard input, or {...} itself");
  schema->type_name("FILE|JSON")->group(kGroup);
  command.add_flag("--json-object", json_object, "the answer is a JSON object")
      ->excludes(schema)
      ->group(kGroup);
}

void AnswerFormFlags::apply(GenerationOptions& options, const Engine& engine) const {
  GrammarCompiler compiler(engine.tokenizer());
  if (json_object) constrain(options, compiler.json_object());
  if (!json_schema) return;
  const bool given = is_schema(*json_schema);
  constrain(options, compiler.json_schema(given ? *json_schema : read_text_file(*json_schema),
                                          given ? "--json-schema" : *json_schema));
}

}  // namespace fovea
