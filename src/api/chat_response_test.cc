// Goal: answers and streams have the shape that OpenAI documents, and valid UTF-8 whatever the tokens hold.
// Method: whole objects compared with JSON written out here.
#include "api/chat_response.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fovea {
namespace {

using nlohmann::ordered_json;

const ResponseHead kHead{"chatcmpl-1", 1700000000, "qwen"};
// The euro sign, of which a token may hold two bytes of three.
const std::string kHalf = "\xe2\x82";

std::vector<ChoiceToken> tokens() {
  return {{{"Hi", -0.25}, {{"Hi", -0.25}, {kHalf, -std::numeric_limits<double>::infinity()}}},
          {{kHalf, -1}, {}}};
}

constexpr const char* kTokens = R"({"content":[
  {"token":"Hi","logprob":-0.25,"bytes":[72,105],"top_logprobs":[
     {"token":"Hi","logprob":-0.25,"bytes":[72,105]},{"token":"\ufffd","logprob":-9999.0,"bytes":[226,130]}]},
  {"token":"\ufffd","logprob":-1.0,"bytes":[226,130],"top_logprobs":[]}],"refusal":null})";

TEST(ChatCompletion, HasTheDocumentedShape) {
  const auto json = chat_completion(kHead, {{"Hi", "stop", tokens()}, {"Ho" + kHalf, "length"}}, {7, 5, 3});
  EXPECT_EQ(json_line(json),
            ordered_json::parse(R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,
    "model":"qwen","choices":[
      {"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":)" +
                                std::string(kTokens) +
                                R"(,"finish_reason":"stop"},
      {"index":1,"message":{"role":"assistant","content":"Ho\ufffd","refusal":null},"logprobs":null,"finish_reason":"length"}],
    "usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":3}}})")
                .dump());
}

TEST(ChatCompletion, ReadsBackEqual) {
  const auto json =
      chat_completion(kHead, {{"a\"\n\x01" + std::string(1, '\0'), "stop", tokens()}}, {1, 2, 0});
  const std::string line = json_line(json);
  EXPECT_EQ(line.find('\n'), line.npos);
  EXPECT_EQ(ordered_json::parse(line), json);
}

TEST(ChatCompletion, NeverSendsWhatIsNoNumber) {
  const auto json =
      chat_completion(kHead, {{"", "stop", std::vector<ChoiceToken>{{{"x", std::nan("")}, {}}}}}, {});
  EXPECT_EQ(json["choices"][0]["logprobs"]["content"][0]["logprob"], -9999.0);
}

std::string chunk(const std::string& choices, const std::string& usage) {
  return R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"qwen","choices":)" +
         choices + usage + "}";
}

TEST(ChatStream, HasTheDocumentedChunks) {
  const ChatStream stream(kHead, false);
  EXPECT_EQ(
      json_line(stream.role(0)),
      chunk(R"([{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}])",
            ""));
  EXPECT_EQ(json_line(stream.delta(1, "Hi")),
            chunk(R"([{"index":1,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}])", ""));
  EXPECT_EQ(json_line(stream.finish(1, "length")),
            chunk(R"([{"index":1,"delta":{},"logprobs":null,"finish_reason":"length"}])", ""));
  const auto two = tokens();
  EXPECT_EQ(stream.delta(0, "Hi", &two)["choices"][0]["logprobs"], ordered_json::parse(kTokens));
}

TEST(ChatCompletion, CallsOfToolsAreTakenOutOfTheWords) {
  const std::string call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
  ChatChoice words{"No.", "stop"}, called{call, "stop"}, both{"Look:\n" + call, "length"};
  take_tool_calls(kHead, 0, words);
  take_tool_calls(kHead, 1, called);
  take_tool_calls(kHead, 2, both);
  const auto json = chat_completion(kHead, {words, called, both}, {});
  const auto& choices = json["choices"];
  EXPECT_FALSE(choices[0]["message"].contains("tool_calls"));
  EXPECT_EQ(choices[0]["finish_reason"], "stop");
  EXPECT_EQ(choices[1]["message"]["content"], nullptr);
  EXPECT_EQ(choices[1]["finish_reason"], "tool_calls");
  const auto& made = choices[1]["message"]["tool_calls"][0];
  EXPECT_EQ(made["type"], "function");
  EXPECT_EQ(made["id"], tool_call_id(kHead, 1, 0));
  EXPECT_EQ(made["function"], ordered_json::parse(R"({"name":"f","arguments":"{\"x\": 1}"})"));
  EXPECT_EQ(choices[2]["message"]["content"], "Look:");
  EXPECT_EQ(choices[2]["finish_reason"], "length");
  EXPECT_NE(choices[2]["message"]["tool_calls"][0]["id"], made["id"]);
}

TEST(ChatStream, CallsOfToolsComeInPieces) {
  const ChatStream stream(kHead, false);
  const std::string id = tool_call_id(kHead, 0, 1);
  EXPECT_EQ(
      json_line(stream.tool_call(0, 1, "f")),
      chunk(
          R"([{"index":0,"delta":{"tool_calls":[{"index":1,"id":")" + id +
              R"(","type":"function","function":{"name":"f","arguments":""}}]},"logprobs":null,"finish_reason":null}])",
          ""));
  EXPECT_EQ(
      json_line(stream.tool_arguments(0, 1, "{")),
      chunk(
          R"([{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{"}}]},"logprobs":null,"finish_reason":null}])",
          ""));
}

TEST(ChatStream, UsageComesLastWithoutChoices) {
  const ChatStream stream(kHead, true);
  EXPECT_EQ(json_line(stream.finish(0, "stop")),
            chunk(R"([{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}])", R"(,"usage":null)"));
  EXPECT_EQ(
      json_line(stream.usage({7, 5, 0})),
      chunk(
          "[]",
          R"(,"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":0}})"));
  EXPECT_DEATH(ChatStream(kHead, false).usage({}), "include_usage_");
}

}  // namespace
}  // namespace fovea
