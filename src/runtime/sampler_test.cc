// Goal: the sampler follows transformers' logits processors and draws as its definition says. Method:
// distributions small enough to be known exactly, compared with drawn frequencies within five standard
// deviations; random requests, compared id for id with a sampler that sorts everything.
#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "runtime/sampler_reference_testing.h"

namespace fovea {
namespace {

std::map<int32_t, int> draw(SamplingOptions options, const std::vector<float>& logits, int count) {
  options.greedy = false;
  Sampler sampler(options);
  std::map<int32_t, int> seen;
  for (int i = 0; i < count; ++i) ++seen[sampler.next(logits, {})];
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
  const SamplingOptions options = {.greedy = true, .repetition_penalty = 2};
  const std::vector<int32_t> history = {0, 2, 0};
  const auto best = [&](const std::vector<float>& logits) { return Sampler(options).next(logits, history); };
  EXPECT_EQ(best({3.f, 1.4f, -1.f}), 0);  // 1.5, once
  EXPECT_EQ(best({3.f, 1.6f, -1.f}), 1);
  EXPECT_EQ(best({-9.f, -1.9f, -1.f}), 1);  // -2, once
  EXPECT_EQ(best({-9.f, -2.1f, -1.f}), 2);
}

TEST(Sampler, MinPDropsWhatIsTooUnlikelyBesideTheLikeliest) {
  const std::vector<float> logits = {std::log(1.f), std::log(8.f), std::log(4.f)};
  EXPECT_EQ(draw({.top_k = 0, .seed = 1, .min_p = 0.45}, logits, 500).size(), 2u);
  EXPECT_EQ(draw({.top_k = 0, .seed = 1, .min_p = 1}, logits, 500).size(), 1u);
  EXPECT_THROW(Sampler({.min_p = 1.5}), Error);
}

// vLLM's: of the answer alone, once for each id, and for each time.
TEST(Sampler, PenaltiesCountWhatTheAnswerHas) {
  const auto next = [](const SamplingOptions& options, std::vector<float> logits,
                       std::vector<int32_t> history) {
    Sampler sampler(options);
    sampler.next(logits, std::span(history).first(1));  // the prompt
    return sampler.next(logits, history);
  };
  const SamplingOptions once = {.presence_penalty = 1}, each = {.frequency_penalty = 1};
  EXPECT_EQ(next(once, {3, 2.5f, 0}, {0}), 0);  // it stands in the prompt
  EXPECT_EQ(next(once, {3, 2.5f, 0}, {1, 0}), 1);
  EXPECT_EQ(next(once, {3.75f, 2.5f, 0}, {1, 0, 0}), 0);
  EXPECT_EQ(next(each, {3.75f, 2.5f, 0}, {1, 0, 0}), 1);
}

TEST(Sampler, BiasesAreAddedFirst) {
  SamplingOptions options = {.repetition_penalty = 2};
  options.logit_bias = {{0, -3}, {2, 2.5f}};
  EXPECT_EQ(Sampler(options).next(std::vector<float>{3, 2, 0}, {}), 2);
  EXPECT_EQ(Sampler(options).next(std::vector<float>{3, 2, 0}, std::vector<int32_t>{2}), 1);  // 1.25
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
    for (int32_t id = 0; id < 8; ++id) {
      const bool banned = std::find(c.banned.begin(), c.banned.end(), id) != c.banned.end();
      std::vector<float> logits(8, 1.f);
      logits[static_cast<size_t>(id)] = 2;
      const int32_t taken = Sampler({.greedy = true, .no_repeat_ngram_size = c.size}).next(logits, c.history);
      EXPECT_EQ(taken != id, banned) << "size " << c.size << " token " << id;
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
    logits = {0.f, 9.f, 1.f, 2.f};
    for (int i = 0; i < 100; ++i) EXPECT_NE(sampler.next(logits, history), 1);
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

// Rows as models give them and rows that are hard: many ties, bf16's few values, ids that cannot come.
std::vector<float> random_row(size_t ids, SplitMix64& random) {
  const auto uniform = [&] { return static_cast<float>(random.bits() >> 40) * 0x1p-24f; };
  const uint64_t kind = random.bits() % 6;
  const float spread = std::exp2(uniform() * 8 - 3);
  std::vector<float> row(ids);
  for (float& logit : row) {
    logit = (uniform() + uniform() + uniform() - 1.5f) * spread;
    if (kind == 1) logit = std::round(logit);
    if (kind == 2) logit = std::bit_cast<float>(std::bit_cast<uint32_t>(logit) & 0xffff0000u);
    if (kind == 3 && random.bits() % 3 != 0) logit = -std::numeric_limits<float>::infinity();
    if (kind == 4) logit = -2;
    if (kind == 5 && random.bits() % 100 == 0) logit += 3 * spread;
  }
  row[random.bits() % ids] = 0.5f * spread;  // one at least is finite
  return row;
}

SamplingOptions random_options(size_t ids, SplitMix64& random) {
  const auto one_of = [&](std::initializer_list<double> values) {
    return values.begin()[random.bits() % values.size()];
  };
  SamplingOptions options;
  options.greedy = random.bits() % 8 == 0;
  options.temperature = one_of({1e-6, 0.01, 0.1, 0.7, 1, 1, 2, 5});
  options.top_k = static_cast<int64_t>(
      one_of({0, 0, 0, 1, 2, 50, static_cast<double>(ids) - 1, static_cast<double>(ids), 1e6}));
  options.top_p = one_of({0, 0.001, 0.5, 0.8, 0.9, 0.999999, 1, 1});
  options.repetition_penalty = one_of({1, 1, 0.7, 1.05, 1.5});
  options.no_repeat_ngram_size = static_cast<int64_t>(one_of({0, 0, 0, 2, 3}));
  options.min_p = one_of({0, 0, 0, 0.01, 0.3, 1});
  options.presence_penalty = one_of({0, 0, 0, 0.5, -2});
  options.frequency_penalty = one_of({0, 0, 0, 0.25, 2});
  if (random.bits() % 4 == 0) {
    const auto id = static_cast<int32_t>(random.bits() % ids), other = static_cast<int32_t>(ids) - 1;
    options.logit_bias = {{id, 1.5f}};
    if (other != id) options.logit_bias.push_back({other, -100});
  }
  options.seed = random.bits();
  return options;
}

// Some tokens of one request by both samplers, each behind the history that the ones before made.
void expect_the_reference(size_t ids, int tokens, uint64_t seed) {
  SplitMix64 random(seed);
  const SamplingOptions options = random_options(ids, random);
  std::vector<int32_t> history;
  for (uint64_t i = random.bits() % 60; i > 0; --i) {
    history.push_back(static_cast<int32_t>(random.bits() % std::min<size_t>(ids, 200)));
  }
  const size_t prompt = history.size();
  Sampler sampler(options);
  SplitMix64 numbers(options.seed);
  for (int token = 0; token < tokens; ++token) {
    const std::vector<float> row = random_row(ids, random);
    std::vector<float> processed = row;
    reference_process(processed, options, history, prompt);
    if (!std::isfinite(*std::max_element(processed.begin(), processed.end()))) return;
    const int32_t expected = reference_next(row, options, history, prompt, numbers);
    ASSERT_EQ(sampler.next(row, history), expected)
        << "seed " << seed << ", token " << token << " of " << ids << " ids, temperature "
        << options.temperature << ", top_k " << options.top_k << ", top_p " << options.top_p << ", penalty "
        << options.repetition_penalty << ", n-gram " << options.no_repeat_ngram_size << ", min_p "
        << options.min_p << ", presence " << options.presence_penalty << ", frequency "
        << options.frequency_penalty << ", biases " << options.logit_bias.size();
    history.push_back(expected);
  }
}

TEST(Sampler, RandomRequestsDrawTheTokensOfTheDefinition) {
  uint64_t seed = 0;
  for (const size_t ids : {1, 2, 3, 50, 63, 64, 65, 300, 1000}) {
    for (int request = 0; request < 200; ++request) expect_the_reference(ids, 4, ++seed);
  }
  for (const size_t ids : {2300, 3000, 9999}) {
    for (int request = 0; request < 60; ++request) expect_the_reference(ids, 3, ++seed);
  }
}

TEST(Sampler, WholeVocabulariesDrawTheTokensOfTheDefinition) {
  uint64_t seed = 1000000;
  for (const size_t ids : {151936, 152064}) {
    for (int request = 0; request < 12; ++request) expect_the_reference(ids, 2, ++seed);
  }
}

TEST(SamplerDeathTest, AHistoryThatDoesNotGoOnIsRefused) {
  const std::vector<float> logits(8, 0.f);
  const std::vector<int32_t> first = {1, 2, 3}, shorter = {1, 2}, other = {1, 2, 4, 5}, beyond = {1, 2, 3, 8};
  for (const auto& next : {shorter, other, beyond}) {
    Sampler sampler({.repetition_penalty = 1.5});
    sampler.next(logits, first);
    EXPECT_DEATH(sampler.next(logits, next), "check failed|history|id");
  }
}

}  // namespace
}  // namespace fovea
