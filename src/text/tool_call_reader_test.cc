// Goal: calls of tools are found in an answer however it is cut, and what is none stays words. Method: whole
// answers, and every answer byte by byte and at every place.
#include "text/tool_call_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace fovea {
namespace {

struct Read {
  std::string words;
  std::vector<std::pair<std::string, std::string>> calls;  // names and arguments
  bool operator==(const Read&) const = default;
};

Read read(const std::vector<std::string_view>& pieces) {
  Read result;
  ToolCallReader reader({[&](std::string_view piece) { result.words += piece; },
                         [&](int64_t index, const std::string& name) {
                           EXPECT_EQ(index, std::ssize(result.calls));
                           result.calls.emplace_back(name, "");
                         },
                         [&](int64_t index, std::string_view piece) {
                           result.calls.at(static_cast<size_t>(index)).second += piece;
                         }});
  for (const std::string_view piece : pieces) reader.push(piece);
  reader.finish();
  EXPECT_EQ(reader.calls(), std::ssize(result.calls));
  return result;
}

const std::string kWeather =
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"a}\\\"]</tool_call>\", \"days\": [1, "
    "2]}}\n</tool_call>";
const std::string kNow = "<tool_call>\n{\"arguments\": {\"a\": 1}, \"name\": \"now\"}\n</tool_call>";

struct Case {
  std::string text;
  Read wanted;
};

std::vector<Case> cases() {
  const std::pair<std::string, std::string>
      weather = {"weather", "{\"city\": \"a}\\\"]</tool_call>\", \"days\": [1, 2]}"},
      now = {"now", "{\"a\":1}"};
  return {{"", {"", {}}},
          {"Just words.\n", {"Just words.\n", {}}},
          {kWeather, {"", {weather}}},
          {"Let me look.\n" + kWeather + "\n" + kNow + "\n", {"Let me look.", {weather, now}}},
          {"  " + kNow + " Done.", {" Done.", {now}}},
          {"<tool_call>\n{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 2}\"}\n</tool_call>",
           {"", {{"f", "{\"x\": 2}"}}}},
          {"<tool_call>{\"name\":\"f\"}</tool_call>", {"", {{"f", "{}"}}}},
          {"a < b <tool_", {"a < b <tool_", {}}},
          {"<tool_call>\nnot JSON\n</tool_call> so", {"<tool_call>\nnot JSON\n</tool_call> so", {}}},
          {"<tool_call>\n{\"name\": \"f\", \"argu", {"<tool_call>\n{\"name\": \"f\", \"argu", {}}},
          // The answer was cut within the arguments.
          {"<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1,", {"", {{"f", "{\"x\": [1,"}}}}};
}

TEST(ToolCallReader, FindsCallsHoweverTheAnswerIsCut) {
  for (const Case& one : cases()) {
    EXPECT_EQ(read({one.text}), one.wanted) << one.text;
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < one.text.size(); ++i) {
      bytes.push_back(std::string_view(one.text).substr(i, 1));
      const std::string_view whole = one.text;
      EXPECT_EQ(read({whole.substr(0, i), whole.substr(i)}), one.wanted) << one.text << i;
    }
    EXPECT_EQ(read(bytes), one.wanted) << one.text;
  }
}

TEST(ToolCallReader, SendsWordsAndArgumentsAsSoonAsTheyAreSure) {
  std::string seen;
  ToolCallReader reader({[&](std::string_view piece) { seen += piece; },
                         [&](int64_t, const std::string& name) { seen += '[' + name + ']'; },
                         [&](int64_t, std::string_view piece) { seen += piece; }});
  reader.push("Look: ");
  EXPECT_EQ(seen, "Look:");
  reader.push("<tool_call>\n{\"name\": \"f\", \"arguments\": {");
  EXPECT_EQ(seen, "Look:[f]{");
  reader.push("\"x\"");
  EXPECT_EQ(seen, "Look:[f]{\"x\"");
}

// Whoever asks can make a model write this; it stays words.
TEST(ToolCallReader, ACallThatNestsWithoutEndIsNone) {
  const std::string deep(500'000, '['), end(500'000, ']');
  const std::string text = "<tool_call>{\"arguments\": " + deep + end + ", \"name\": \"f\"}</tool_call>";
  EXPECT_EQ(read({text}), (Read{text, {}}));
}

}  // namespace
}  // namespace fovea
