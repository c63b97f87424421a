// Goal: an answer that is held to a grammar parses and satisfies it whatever the logits are; the mask comes
// before everything else; only end tokens follow a whole value. Method: samplers of every kind over random
// logits of a small vocabulary.
#include "runtime/constraint.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "base/splitmix64.h"
#include "grammar/grammar_compiler.h"
#include "text/small_tokenizer_testing.h"

namespace fovea {
namespace {

constexpr int32_t kEnd = 260;
constexpr size_t kVocabulary = 320;  // larger than the tokenizer's, as a model's may be

class Constraint : public testing::Test {
 protected:
  GenerationOptions options(const std::string& schema, SamplingOptions sampling = {}) {
    GenerationOptions options;
    options.sampling = std::move(sampling);
    options.eos_token_ids = {kEnd};
    constrain(options, compiler_.json_schema(schema, "schema"));
    return options;
  }

  const Tokenizer tokenizer_ = open_tokenizer(small_tokenizer());
  GrammarCompiler compiler_{tokenizer_};
};

std::vector<float> random_logits(SplitMix64& random) {
  std::vector<float> logits(kVocabulary);
  for (float& one : logits) one = static_cast<float>(random.bits() % 2000) / 100 - 10;
  return logits;
}

TEST_F(Constraint, AnswersParseWhateverTheLogitsAre) {
  const std::string schema =
      R"({"type":"object","properties":{"id":{"type":"integer","minimum":1,"maximum":99},)"
      R"("kind":{"enum":["abc","ab"]},"note":{"type":"string","maxLength":5}},"required":["id","kind"]})";
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SamplingOptions sampling;
    sampling.greedy = seed % 3 == 0;
    sampling.temperature = seed % 3 == 1 ? 0.7 : 50;
    sampling.top_k = seed % 2 == 0 ? 50 : 0;
    sampling.top_p = seed % 5 == 0 ? 0.5 : 1;
    sampling.repetition_penalty = seed % 4 == 0 ? 1.3 : 1;
    sampling.seed = seed;
    Sampler sampler(options(schema, sampling).sampling);
    SplitMix64 random{seed};
    std::vector<int32_t> history = {97, 98, 123};
    std::string text;
    int32_t id = 0;
    for (int i = 0; i < 300 && id != kEnd; ++i) {
      id = sampler.next(random_logits(random), history);
      history.push_back(id);
      if (id != kEnd) text += tokenizer_.token_bytes(id);
    }
    ASSERT_EQ(id, kEnd) << text;
    const auto json = nlohmann::json::parse(text, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << text;
    EXPECT_GE(json.at("id"), 1) << text;
    EXPECT_LE(json.at("id"), 99) << text;
    EXPECT_TRUE(json.at("kind") == "abc" || json.at("kind") == "ab") << text;
    // The next call would end it again.
    EXPECT_EQ(sampler.next(random_logits(random), history), kEnd);
  }
}

TEST_F(Constraint, ComesBeforePenaltiesAndChoosesTheBestThatFits) {
  const GenerationOptions held = options(R"({"enum": ["a", "b"]})", {.repetition_penalty = 1.5});
  Sampler sampler(held.sampling);
  std::vector<float> logits(kVocabulary, 5);
  logits[0] = logits['b'] = 100;
  logits['"'] = -50;
  std::vector<int32_t> history = {'"', 0};
  EXPECT_EQ(sampler.next(logits, history), '"');
  history.push_back('"');
  EXPECT_EQ(sampler.next(logits, history), 'b');
  history.push_back('b');
  EXPECT_EQ(sampler.next(logits, history), '"');
  history.push_back('"');
  EXPECT_EQ(sampler.next(logits, history), kEnd);
  EXPECT_EQ(logits[0], 100);  // the row stays as it was
}

TEST_F(Constraint, SaysWhatLeavesNoToken) {
  Sampler sampler(options("{\"const\": \"aa\"}", {.no_repeat_ngram_size = 1}).sampling);
  const std::vector<float> logits(kVocabulary, 1);
  std::vector<int32_t> history = {1};
  for (int i = 0; i < 2; ++i) history.push_back(sampler.next(logits, history));
  try {
    sampler.next(logits, history);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(error.message().find("grammar"), std::string::npos);
  }
}

TEST_F(Constraint, WantsAnEnd) {
  const auto grammar = compiler_.json_object();
  GenerationOptions options;
  EXPECT_THROW(constrain(options, grammar), Error);
  options.eos_token_ids = {kEnd};
  options.ignore_eos = true;
  EXPECT_THROW(constrain(options, grammar), Error);
  constrain(options, nullptr);
  EXPECT_EQ(options.sampling.grammar, nullptr);
}

}  // namespace
}  // namespace fovea
