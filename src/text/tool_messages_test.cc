// Goal: a conversation with tools is rendered to the words that Qwen2.5's template makes of it. Method: texts
// that were written by hand after that template, whose default system message is here Qwen2.5-VL's.
#include "text/tool_messages.h"

#include <gtest/gtest.h>

#include "base/field_error.h"
#include "base/temporary_folder_testing.h"
#include "text/chat_template.h"
#include "text/ordered_json.h"

namespace fovea {
namespace {

std::string render(const std::string& messages, const std::vector<std::string>& tools) {
  const TemporaryFolder folder;
  return ChatTemplate::open(folder.path(), ChatTemplate::kNative)
      .render(with_tools(parse_messages(messages), tools), {.add_generation_prompt = true});
}

const std::string kTools =
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided "
    "with function "
    "signatures within <tools></tools> XML tags:\n<tools>\n{\"type\": \"function\", \"function\": {\"name\": "
    "\"f\"}}\n"
    "{\"b\": 1, \"a\": [true, null, \"\xc3\xa9\"]}\n</tools>\n\nFor each function call, return a json object "
    "with function "
    "name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, "
    "\"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n";

std::vector<std::string> two_tools() {
  return {python_json(parse_ordered_json(R"({"type":"function","function":{"name":"f"}})", "a")),
          python_json(parse_ordered_json("{\"b\":1,\"a\":[true,null,\"\\u00e9\"]}", "b"))};
}

TEST(WithTools, ShowsToolsCallsAndResults) {
  const std::string messages = R"([
    {"role": "user", "content": "How warm?"},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"city\":\"Ulm\",\"at\": 1.0}"}},
      {"id": "2", "type": "function", "function": {"name": "g", "arguments": {}}}]},
    {"role": "tool", "tool_call_id": "1", "content": "21"},
    {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "no"}]},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [{"function": {"name": "h"}}]},
    {"role": "tool", "content": "x"},
    {"role": "user", "content": "So?"}])";
  EXPECT_EQ(render(messages, two_tools()),
            "<|im_start|>system\nYou are a helpful assistant." + kTools +
                "<|im_start|>user\nHow warm?<|im_end|>\n"
                "<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Ulm\", "
                "\"at\": 1.0}}\n"
                "</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call><|im_end|>\n"
                "<|im_start|>user\n<tool_response>\n21\n</tool_response>\n<tool_response>\nno\n</"
                "tool_response><|im_end|>\n"
                "<|im_start|>assistant\nLet me see.\n<tool_call>\n{\"name\": \"h\", \"arguments\": "
                "{}}\n</tool_call><|im_end|>\n"
                "<|im_start|>user\n<tool_response>\nx\n</tool_response><|im_end|>\n"
                "<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n");
}

TEST(WithTools, StandBehindTheConversationsOwnSystemMessage) {
  EXPECT_EQ(
      render(R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])",
             two_tools()),
      "<|im_start|>system\nBe brief." + kTools + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(WithTools, NotesOfCallsThatAreNowShownGo) {
  const auto messages = with_tools(
      parse_messages(
          R"([{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]}])"),
      two_tools());
  EXPECT_EQ(messages.size(), 2u);
  EXPECT_TRUE(messages[1].notes.empty());
}

TEST(WithTools, CallsThatAreNoneAreRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"[5]", "messages[0].tool_calls[0]"},
      {"[{}]", "messages[0].tool_calls[0].function.name"},
      {R"([{"function": {"name": "f", "arguments": "{"}}])", "messages[0].tool_calls[0].function.arguments"},
      {R"([{"function": {"name": "f", "arguments": "[]"}}])",
       "messages[0].tool_calls[0].function.arguments"}};
  for (const auto& [calls, field] : cases) {
    const std::string text =
        std::string(R"([{"role": "assistant", "content": "", "tool_calls": )") + calls + "}]";
    try {
      with_tools(parse_messages(text), two_tools());
      FAIL() << calls;
    } catch (const FieldError& error) {
      EXPECT_EQ(error.field(), field);
    }
  }
}

TEST(OrderedJson, KeepsOrderAndBounds) {
  EXPECT_EQ(python_json(parse_ordered_json("{\"z\":[1,2.5,\"a\\/\"],\"a\":{}}", "x")),
            R"({"z": [1, 2.5, "a/"], "a": {}})");
  for (const char* text : {"{", "{\"a\":1,\"a\":2}", "\"\xff\""}) {
    EXPECT_THROW(parse_ordered_json(text, "x"), FieldError) << text;
  }
  EXPECT_THROW(parse_ordered_json(std::string(kMaxOrderedJsonBytes + 1, ' '), "x"), FieldError);
  EXPECT_THROW(parse_ordered_json(std::string(100, '[') + std::string(100, ']'), "x"), FieldError);
  std::string keys = "{";
  for (size_t i = 0; i <= kMostOrderedJsonKeys; ++i) keys += fmt::format("{}\"{}\":0", i == 0 ? "" : ",", i);
  EXPECT_THROW(parse_ordered_json(keys + "}", "x"), FieldError);
}

}  // namespace
}  // namespace fovea
