// Goal: bodies of /v1/completions, /tokenize and /detokenize are read in all their forms, and answers have
// OpenAI's. Method: small bodies; tables of bad ones.
#include <gtest/gtest.h>

#include "api/completion_request.h"
#include "api/completion_response.h"
#include "api/token_requests.h"
#include "base/field_error.h"

namespace fovea {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

TEST(CompletionRequest, TakesEveryFormOfPrompt) {
  const auto prompts = [](const std::string& prompt) {
    return parse_completion_request(R"({"prompt": )" + prompt + "}").prompts;
  };
  EXPECT_EQ(prompts(R"("a")"), std::vector<TextOrIds>{"a"});
  EXPECT_EQ(prompts(R"(["a", "b"])"), (std::vector<TextOrIds>{"a", "b"}));
  EXPECT_EQ(prompts("[1, 2]"), (std::vector<TextOrIds>{std::vector<int32_t>{1, 2}}));
  EXPECT_EQ(prompts(R"([[1], [2, 3], "x"])"),
            (std::vector<TextOrIds>{std::vector<int32_t>{1}, std::vector<int32_t>{2, 3}, "x"}));
  const CompletionRequest plain = parse_completion_request(R"({"prompt": "a"})");
  EXPECT_EQ(plain.max_tokens, 16);
  EXPECT_FALSE(plain.logprobs);
  const CompletionRequest full = parse_completion_request(
      R"({"prompt": "a", "logprobs": 0, "max_tokens": 3, "n": 2, "temperature": 0, "suffix": null, "echo": false,
          "best_of": 1, "model": "m", "messages": []})");
  EXPECT_TRUE(full.logprobs);
  EXPECT_EQ(full.top_logprobs, 0);
  EXPECT_EQ(full.n, 2);
  ASSERT_EQ(full.warnings.size(), 1u);
  EXPECT_NE(full.warnings[0].find("\"messages\""), std::string::npos);
}

TEST(CompletionRequest, RefusesByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "prompt"},
      {R"({"prompt": 5})", "prompt"},
      {R"({"prompt": []})", "prompt"},
      {R"({"prompt": [[]]})", "prompt"},
      {R"({"prompt": [1, "a"]})", "prompt"},
      {R"({"prompt": [-1]})", "prompt"},
      {R"({"prompt": [1.5]})", "prompt"},
      {R"({"prompt": [4294967296]})", "prompt"},
      {R"({"prompt": "a", "logprobs": true})", "logprobs"},
      {R"({"prompt": "a", "logprobs": 21})", "logprobs"},
      {R"({"prompt": "a", "suffix": "b"})", "suffix"},
      {R"({"prompt": "a", "echo": true})", "echo"},
      {R"({"prompt": "a", "best_of": 2})", "best_of"},
      {R"({"prompt": "a", "response_format": {"type": "json_object"}})", "response_format"},
      {R"({"prompt": ["a", "b"], "n": 65})", "n"},
  };
  for (const auto& [body, field] : cases) {
    try {
      parse_completion_request(body);
      ADD_FAILURE() << body;
    } catch (const FieldError& error) {
      EXPECT_EQ(error.field(), field) << body;
    }
  }
  json many = {{"prompt", std::vector<std::string>(129, "a")}};
  EXPECT_THROW(parse_completion_request(many.dump()), FieldError);
}

TEST(CompletionResponse, HasOpenAisForm) {
  const ResponseHead head{"cmpl-1", 7, "m"};
  ChatChoice choice{"h\xc3\xa4", "length", std::vector<ChoiceToken>{}};
  choice.logprobs->push_back({{"h", -0.5}, {{"h", -0.5}, {"i", -1e9}}});
  choice.logprobs->push_back({{"\xc3\xa4", -1}, {}});
  const ordered_json whole = text_completion(head, {choice, {"x", "stop"}}, {3, 4, 1});
  EXPECT_EQ(
      json_line(whole),
      "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":7,\"model\":\"m\",\"choices\":[{"
      "\"index\":0,"
      "\"text\":\"h\xc3\xa4\",\"logprobs\":{\"tokens\":[\"h\",\"\xc3\xa4\"],\"token_logprobs\":[-0.5,-1.0],"
      "\"top_logprobs\":[{\"h\":-0.5,\"i\":-9999.0},{}],\"text_offset\":[0,1]},\"finish_reason\":\"length\"},"
      "{\"index\":1,\"text\":\"x\",\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_"
      "tokens\":3,"
      "\"completion_tokens\":4,\"total_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":1}}}");
  const CompletionStream stream(head, true);
  EXPECT_EQ(stream.delta(1, "b", &*choice.logprobs, 5)["choices"][0]["logprobs"]["text_offset"],
            (std::vector<int>{5, 6}));
  EXPECT_TRUE(stream.delta(1, "b", nullptr, 0)["usage"].is_null());
  EXPECT_EQ(stream.finish(1, "stop")["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(stream.usage({1, 2, 0})["choices"].empty());
  EXPECT_EQ(characters_in("a\xc3\xa4\xf0\x9f\x98\x80"), 3);
}

TEST(TokenRequests, AreReadInBothForms) {
  EXPECT_EQ(parse_tokenize_request(R"({"prompt": "a", "add_special_tokens": true})", {}).text, "a");
  EXPECT_TRUE(parse_tokenize_request(R"({"content": "b", "with_pieces": true})", {}).with_pieces);
  EXPECT_EQ(parse_tokenize_request(R"({"messages": [{"role": "user", "content": "c"}], "model": "m"})", {})
                .messages.size(),
            1u);
  for (const char* body :
       {"{}", R"({"prompt": "a", "content": "b"})", R"({"prompt": 5})", R"({"messages": []})",
        R"({"messages": [{"role": "user", "content": [{"image": "/x.png"}]}]})"}) {
    EXPECT_THROW(parse_tokenize_request(body, {}), FieldError) << body;
  }
  EXPECT_EQ(parse_detokenize_request(R"({"tokens": [1, 2]})").tokens, (std::vector<int32_t>{1, 2}));
  for (const char* body : {"{}", R"({"tokens": 5})", R"({"tokens": [-1]})", R"({"tokens": ["a"]})"}) {
    EXPECT_THROW(parse_detokenize_request(body), FieldError) << body;
  }
}

}  // namespace
}  // namespace fovea
