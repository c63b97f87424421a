// Goal: the sampler follows transformers' logits processors. Method: distributions small enough to be known
// exactly, compared with drawn frequencies within five standard deviations.
#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
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

TEST(Sampler, SameSeedSameDraws) {
  const std::vector<float> logits(50, 0.f);
  EXPECT_EQ(draw({.seed = 3}, logits, 100), draw({.seed = 3}, logits, 100));
  EXPECT_NE(draw({.seed = 3}, logits, 100), draw({.seed = 4}, logits, 100));
}

TEST(Sampler, OptionsOutOfRangeAreRefused) {
  EXPECT_THROW(Sampler({.greedy = false, .temperature = 0}), Error);
  EXPECT_THROW(Sampler({.top_k = -1}), Error);
  EXPECT_THROW(Sampler({.top_p = 0}), Error);
  EXPECT_THROW(Sampler({.repetition_penalty = 0}), Error);
}

}  // namespace
}  // namespace fovea
