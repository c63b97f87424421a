// Goal: an answer that follows a grammar satisfies its schema, every compact instance in the schema's order
// can be written, and no beginning of one is a dead end. Method: random schemas with instances that
// jsonschema judged (tools/make_schema_goldens.py); a validator compared with those verdicts judges what is
// sampled here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/splitmix64.h"
#include "grammar/grammar_compiler.h"
#include "grammar/schema_validator_testing.h"
#include "text/golden_files_testing.h"
#include "text/small_tokenizer_testing.h"

namespace fovea {
namespace {

using Json = nlohmann::ordered_json;

const Json& goldens() {
  static const Json document = Json::parse(unpacked_repository_file("tests/data/grammar/schemas.json.xz"));
  return document.at("cases");
}

const Tokenizer& small() {
  static const Tokenizer tokenizer = open_tokenizer(small_tokenizer());
  return tokenizer;
}

std::vector<uint64_t> allowed_words(const GrammarMatcher& matcher, int32_t vocabulary) {
  std::vector<uint64_t> words((static_cast<size_t>(vocabulary) + 63) / 64);
  matcher.allowed()->add_to(words);
  return words;
}

bool contains(const std::vector<uint64_t>& words, int32_t id) {
  return (words[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0;
}

TEST(SchemaGoldens, TheValidatorAgreesWithJsonschema) {
  for (const Json& one : goldens()) {
    const Json schema = Json::parse(one.at("schema").get<std::string>());
    const SchemaValidator validator(schema);
    for (const bool valid : {true, false}) {
      for (const Json& text : one.at(valid ? "valid" : "invalid")) {
        // Its patterns are of bytes; the goldens' are of ASCII, or of what has no end.
        EXPECT_EQ(validator.is_valid(Json::parse(text.get<std::string>())), valid)
            << one.at("schema") << text;
      }
    }
  }
}

TEST(SchemaGoldens, ValidInstancesAreWrittenByteByByte) {
  GrammarCompiler compiler(small());
  for (const Json& one : goldens()) {
    const auto grammar = compiler.json_schema(one.at("schema").get<std::string>(), "schema");
    for (const Json& instance : one.at("valid")) {
      GrammarMatcher matcher(grammar);
      const auto& text = instance.get_ref<const std::string&>();
      for (size_t i = 0; i < text.size(); ++i) {
        // Ids of single bytes are the bytes.
        ASSERT_TRUE(contains(allowed_words(matcher, small().size()), static_cast<uint8_t>(text[i])))
            << one.at("schema") << '\n'
            << text << '\n'
            << text.substr(0, i);
        ASSERT_TRUE(matcher.accept(text.substr(i, 1)));
      }
      EXPECT_TRUE(matcher.is_complete()) << one.at("schema") << text;
    }
  }
}

TEST(SchemaGoldens, InvalidInstancesAreNot) {
  GrammarCompiler compiler(small());
  for (const Json& one : goldens()) {
    const auto grammar = compiler.json_schema(one.at("schema").get<std::string>(), "schema");
    for (const Json& instance : one.at("invalid")) {
      GrammarMatcher matcher(grammar);
      const bool accepted = matcher.accept(instance.get_ref<const std::string&>()) && matcher.is_complete();
      EXPECT_FALSE(accepted) << one.at("schema") << instance;
    }
  }
}

// Draws tokens that are allowed, until the answer may end and a coin says so. What closes something is liked
// better as the answer grows. Nothing where it did not end.
std::optional<std::string> sampled(const std::shared_ptr<const Grammar>& grammar, const Tokenizer& tokenizer,
                                   SplitMix64& random) {
  constexpr int kMost = 400;
  GrammarMatcher matcher(grammar);
  std::string text;
  for (int i = 0; i < kMost; ++i) {
    const auto words = allowed_words(matcher, tokenizer.size());
    std::vector<int32_t> ids, closing;
    for (int32_t id = 0; id < tokenizer.size(); ++id) {
      if (!contains(words, id)) continue;
      ids.push_back(id);
      const std::string_view bytes = tokenizer.token_bytes(id);
      if (bytes == "\"" || bytes == "}" || bytes == "]" || bytes == "n") closing.push_back(id);
    }
    EXPECT_TRUE(!ids.empty() || matcher.is_complete()) << text;
    if (matcher.is_complete() && (ids.empty() || random.bits() % 3 == 0)) return text;
    if (ids.empty()) return std::nullopt;
    const auto& among = !closing.empty() && random.bits() % 100 < static_cast<uint64_t>(i) ? closing : ids;
    const int32_t id = among[random.bits() % among.size()];
    EXPECT_TRUE(matcher.accept(id));
    text += tokenizer.token_bytes(id);
  }
  return std::nullopt;
}

TEST(SchemaGoldens, WhatIsSampledIsValid) {
  GrammarCompiler compiler(small());
  int finished = 0, begun = 0;
  SplitMix64 random{7};
  for (const Json& one : goldens()) {
    const Json schema = Json::parse(one.at("schema").get<std::string>());
    const auto grammar = compiler.json_schema(one.at("schema").get<std::string>(), "schema");
    for (int i = 0; i < 4; ++i, ++begun) {
      const auto text = sampled(grammar, small(), random);
      if (!text) continue;
      ++finished;
      const Json value = Json::parse(*text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << *text;
      EXPECT_TRUE(SchemaValidator(schema).is_valid(value)) << schema << '\n' << *text;
    }
  }
  EXPECT_GT(finished, begun / 2);
}

TEST(SchemaGoldens, MasksOfTheRealVocabularyAreThoseOfEachTokenAlone) {
  const Tokenizer tokenizer = open_qwen_tokenizer();
  GrammarCompiler compiler(tokenizer);
  SplitMix64 random{11};
  for (size_t i = 3; i < goldens().size(); i += 47) {
    const Json& one = goldens()[i];
    if (one.at("valid").empty()) continue;
    const auto grammar = compiler.json_schema(one.at("schema").get<std::string>(), "schema");
    const auto& text = one.at("valid")[0].get_ref<const std::string&>();
    GrammarMatcher matcher(grammar);
    ASSERT_TRUE(matcher.accept(text.substr(0, random.bits() % text.size())));
    const auto words = allowed_words(matcher, tokenizer.size());
    int differ = 0;
    for (int32_t id = 0; id < tokenizer.size(); ++id) {
      GrammarMatcher copy = matcher;
      differ +=
          copy.accept(tokenizer.is_special(id) ? std::string_view("\xff") : tokenizer.token_bytes(id)) &&
                  !tokenizer.token_bytes(id).empty()
              ? !contains(words, id)
              : contains(words, id);
    }
    EXPECT_EQ(differ, 0) << one.at("schema") << text;
  }
}

TEST(SchemaGoldens, AnswersOfTheRealVocabularyAreValid) {
  const Tokenizer tokenizer = open_qwen_tokenizer();
  GrammarCompiler compiler(tokenizer);
  SplitMix64 random{5};
  int finished = 0;
  for (size_t i = 0; i < goldens().size(); i += 29) {
    const Json schema = Json::parse(goldens()[i].at("schema").get<std::string>());
    const auto text = sampled(compiler.json_schema(goldens()[i].at("schema").get<std::string>(), "schema"),
                              tokenizer, random);
    if (!text) continue;
    ++finished;
    const Json value = Json::parse(*text, nullptr, false);
    ASSERT_FALSE(value.is_discarded()) << *text;
    EXPECT_TRUE(SchemaValidator(schema).is_valid(value)) << schema << '\n' << *text;
  }
  EXPECT_GT(finished, 8);
}

}  // namespace
}  // namespace fovea
