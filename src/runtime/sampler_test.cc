// Goal: the sampler follows transformers' logits processors. Method: distributions small enough to be known
// exactly, compared with drawn frequencies within five standard deviations.
#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"

namespace fovea {
namespace {

std::map<int32_t, int> draw(SamplingOptions options, const std::vector<float>& logits, int count) {
  options.greedy = false;
  Sampler sampler(options);
  std::map<int32_t, int> seen;
  for (int i = 0; i < count; ++i) {
    auto copy = logits;
    ++seen[sampler.next(copy, {})];
  }
  return seen;
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  const std::vector<float> logits = {0.f, std::log(2.f), std::log(5.f)};
  for (const double temperature : {1.0, 0.5}) {
    const auto seen = draw({.temperature = temperature, .top_k = 0, .seed = 7}, logits, 20000);
    const double power = 1 / temperature, total = 1 + std::pow(2, power) + std::pow(5, power);
    for (const auto& [id, mass] :
         std::map<int32_t, double>{{0, 1}, {1, std::pow(2, power)}, {2, std::pow(5, power)}}) {
      const double p = mass / total, deviation = std::sqrt(p * (1 - p) / 20000);
      EXPECT_NEAR(seen.at(id) / 20000.0, p, 5 * deviation);
    }
  }
}

TEST(Sampler, TopKAndTopPCutTheTail) {
  const std::vector<float> logits = {std::log(1.f), std::log(6.f), std::log(3.f)};
  EXPECT_EQ(draw({.top_k = 1, .seed = 1}, logits, 200).size(), 1u);
  EXPECT_EQ(draw({.top_k = 2, .seed = 1}, logits, 500).count(0), 0u);
  // 0.6 reaches 0.5 alone; 0.6 + 0.3 reach 0.7.
  EXPECT_EQ(draw({.top_k = 0, .top_p = 0.5, .seed = 1}, logits, 500).size(), 1u);
  EXPECT_EQ(draw({.top_k = 0, .top_p = 0.7, .seed = 1}, logits, 500).size(), 2u);
}

TEST(Sampler, RepetitionPenaltyDividesPositiveAndMultipliesNegative) {
  Sampler sampler({.greedy = true, .repetition_penalty = 2});
  std::vector<float> logits = {3.f, 2.f, -1.f};
  const std::vector<int32_t> history = {0, 2, 0};
  EXPECT_EQ(sampler.next(logits, history), 1);
  EXPECT_EQ(logits, (std::vector<float>{1.5f, 2.f, -2.f}));
}

// What NoRepeatNGramLogitsProcessor of transformers 4.57.6 and 5.24.0 bans of 8 tokens.
TEST(Sampler, RepeatsAreForbiddenAsByTransformers) {
  const struct {
    int64_t size;
    std::vector<int32_t> history, banned;
  } cases[] = {{1, {2, 0, 2}, {0, 2}},
               {2, {1, 2, 3, 1}, {2}},
               {2, {1, 1}, {1}},
               {3, {4, 5, 6, 4, 5}, {6}},
               {3, {4, 5, 6, 4, 5, 7, 4, 5}, {6, 7}},
               {3, {4, 4, 4}, {4}},
               {4, {1, 2, 3}, {}},
               {4, {1, 2}, {}},
               {5, {0, 1, 2, 3, 4, 0, 1, 2, 3}, {4}},
               {2, {}, {}},
               {2, {3}, {}},
               {0, {1, 1, 1}, {}}};
  for (const auto& c : cases) {
    std::vector<float> logits(8, 1.f);
    Sampler({.greedy = true, .no_repeat_ngram_size = c.size}).next(logits, c.history);
    for (int32_t id = 0; id < 8; ++id) {
      const bool banned = std::find(c.banned.begin(), c.banned.end(), id) != c.banned.end();
      EXPECT_EQ(logits[static_cast<size_t>(id)] == -std::numeric_limits<float>::infinity(), banned)
          << "size " << c.size << " token " << id;
    }
  }
}

TEST(Sampler, AForbiddenTokenIsNeitherTakenNorDrawn) {
  const std::vector<int32_t> history = {3, 1, 3};
  std::vector<float> logits = {0.f, 9.f, 1.f, 8.f};
  EXPECT_EQ(Sampler({.greedy = true, .no_repeat_ngram_size = 2}).next(logits, history), 3);
  for (const SamplingOptions& options :
       {SamplingOptions{.greedy = false, .top_k = 0, .seed = 1, .no_repeat_ngram_size = 2},
        SamplingOptions{.greedy = false, .top_k = 1, .top_p = 0, .seed = 1, .no_repeat_ngram_size = 2}}) {
    Sampler sampler(options);
    for (int i = 0; i < 100; ++i) {
      std::vector<float> copy = {0.f, 9.f, 1.f, 2.f};
      EXPECT_NE(sampler.next(copy, history), 1);
    }
  }
}

TEST(Sampler, NoTokenLeftIsSaid) {
  for (const bool greedy : {true, false}) {
    Sampler sampler({.greedy = greedy, .no_repeat_ngram_size = 1});
    std::vector<float> logits = {0.f, 1.f};
    EXPECT_THROW(sampler.next(logits, std::vector<int32_t>{1, 0}), Error);
  }
}

TEST(Sampler, SameSeedSameDraws) {
  const std::vector<float> logits(50, 0.f);
  EXPECT_EQ(draw({.seed = 3}, logits, 100), draw({.seed = 3}, logits, 100));
  EXPECT_NE(draw({.seed = 3}, logits, 100), draw({.seed = 4}, logits, 100));
}

TEST(Sampler, OptionsOutOfRangeAreRefused) {
  EXPECT_THROW(Sampler({.greedy = false, .temperature = 0}), Error);
  EXPECT_THROW(Sampler({.top_k = -1}), Error);
  EXPECT_THROW(Sampler({.top_p = -0.1}), Error);
  EXPECT_THROW(Sampler({.no_repeat_ngram_size = -1}), Error);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}), Error);
}

}  // namespace
}  // namespace fovea
