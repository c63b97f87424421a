// Goal: response_format and tool_choice become the grammar that they ask for, with the keys of schemas in the
// order in which they were sent. Method: bodies read; texts tried against the grammar.
#include "api/answer_form.h"

#include <gtest/gtest.h>

#include "api/chat_request.h"
#include "api/raw_json.h"
#include "base/field_error.h"
#include "text/small_tokenizer_testing.h"

namespace fovea {
namespace {

ChatRequest read(const std::string& fields) {
  return parse_chat_request(R"({"messages": [{"role": "user", "content": "Hi"}], )" + fields + "}", {});
}

bool takes(const ChatRequest& request, const std::string& text) {
  static const Tokenizer tokenizer = open_tokenizer(small_tokenizer());
  GrammarCompiler compiler(tokenizer);
  GrammarMatcher matcher(grammar_of(request.form, compiler));
  return matcher.accept(text) && matcher.is_complete();
}

TEST(AnswerForm, JsonObjectsAndSchemas) {
  EXPECT_EQ(read(R"("response_format": {"type": "text"})").form.kind, AnswerForm::Kind::text);
  for (const char* format :
       {R"({"type": "json_object"})", R"({"type": "json_schema", "json_schema": {"name": "n"}})"}) {
    const ChatRequest request = read(fmt::format(R"("response_format": {})", format));
    EXPECT_TRUE(takes(request, R"({"any": ["thing"]})"));
    EXPECT_FALSE(takes(request, "[]"));
  }
  const std::string schema =
      R"({"properties": {"z": {"type": "null"}, "a": {"type": "null"}}, "required": ["a", "z"]})";
  for (const std::string& format :
       {R"({"type": "json_object", "schema": )" + schema + "}",
        R"({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": )" + schema +
            "}}"}) {
    const ChatRequest request = read(R"("response_format": )" + format);
    EXPECT_TRUE(takes(request, R"({"z":null,"a":null})"));
    EXPECT_FALSE(takes(request, R"({"a":null,"z":null})"));
  }
}

TEST(AnswerForm, AToolThatMustBeCalled) {
  const std::string tools =
      R"("tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object",)"
      R"( "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}, {"type": "function", "function": {"name": "g"}}])";
  const std::string f = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>",
                    g = "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
  const ChatRequest required = read(tools + R"(, "tool_choice": "required")");
  EXPECT_TRUE(takes(required, f) && takes(required, g) && takes(required, f + "\n" + g));
  EXPECT_FALSE(takes(required, "no") ||
               takes(required, "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>"));
  const ChatRequest one = read(tools + R"(, "tool_choice": "required", "parallel_tool_calls": false)");
  EXPECT_TRUE(takes(one, g));
  EXPECT_FALSE(takes(one, f + "\n" + g));
  const ChatRequest named =
      read(tools + R"(, "tool_choice": {"type": "function", "function": {"name": "g"}})");
  EXPECT_TRUE(takes(named, g));
  EXPECT_FALSE(takes(named, f));
  EXPECT_EQ(read(tools).form.kind, AnswerForm::Kind::text);
  EXPECT_THROW(read(tools + R"(, "response_format": {"type": "json_object"})"), FieldError);
}

TEST(AnswerForm, SaysWhereInASchemaSomethingCannotBeHeldTo) {
  const ChatRequest request = read(
      R"("response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"not": {}}}}}})");
  try {
    takes(request, "");
    FAIL();
  } catch (const FieldError& error) {
    EXPECT_EQ(error.field(), "response_format.json_schema.schema/properties/a/not");
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
  }
}

TEST(RawJson, FindsMembersAsTheyWereWritten) {
  const std::string text = " { \"a\" : [1, {\"}\": \"]\\\"\"}] , \"b\\u0063\": -1.5e3 ,\"d\":{ \"x\":null }}";
  EXPECT_EQ(raw_member(text, "a"), "[1, {\"}\": \"]\\\"\"}]");
  EXPECT_EQ(raw_member(text, "bc"), "-1.5e3");
  EXPECT_EQ(raw_member(text, "d"), "{ \"x\":null }");
  EXPECT_EQ(raw_member(text, "x"), std::nullopt);
  EXPECT_EQ(raw_member("{}", "a"), std::nullopt);
  EXPECT_EQ(raw_member("[]", "a"), std::nullopt);
  EXPECT_EQ(raw_elements("[1, \"a,]\" ,{}]"), (std::vector<std::string_view>{"1", "\"a,]\"", "{}"}));
  EXPECT_TRUE(raw_elements("[]").empty());
  // Whatever the text is, nothing beyond it is read.
  for (size_t i = 0; i < text.size(); ++i) {
    raw_member(text.substr(0, i), "none");
    raw_elements(text.substr(i));
  }
}

}  // namespace
}  // namespace fovea
