// Goal: log probabilities are those of the softmax of the raw logits. Method: against sums in long double,
// and distributions small enough to be known.
#include "runtime/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/splitmix64.h"
#include "runtime/sampler.h"

namespace fovea {
namespace {

TEST(Logprobs, AreThoseOfASmallDistribution) {
  const std::vector<float> logits = {std::log(1.f), std::log(6.f), std::log(3.f),
                                     -std::numeric_limits<float>::infinity()};
  const Logprobs found = logprobs_of(logits, 2, 20);
  EXPECT_EQ(found.chosen.id, 2);
  EXPECT_NEAR(found.chosen.logprob, std::log(0.3), 1e-6);  // of logarithms in f32
  ASSERT_EQ(found.top.size(), 4u);                         // no more than there are
  EXPECT_EQ(found.top[0].id, 1);
  EXPECT_NEAR(found.top[0].logprob, std::log(0.6), 1e-6);
  EXPECT_EQ(found.top[3].id, 3);
  EXPECT_EQ(found.top[3].logprob, -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(logprobs_of(logits, 0, 0).top.empty());
}

TEST(Logprobs, OfAVocabularyAgreeWithASlowSum) {
  SplitMix64 random(1);
  for (const size_t ids : {64, 1000, 151936}) {
    std::vector<float> logits(ids);
    for (float& logit : logits) logit = static_cast<float>(random.bits() % 4000) / 100 - 15;  // with ties
    long double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<long double>(logit));
    const auto exact = [&](int32_t id) {
      return static_cast<double>(static_cast<long double>(logits[static_cast<size_t>(id)]) - std::log(sum));
    };
    const int32_t chosen = static_cast<int32_t>(ids) - 1;
    const Logprobs found = logprobs_of(logits, chosen, kMostTopLogprobs);
    EXPECT_NEAR(found.chosen.logprob, exact(chosen), 0x1p-39 + 0x1p-52 * 60);
    std::vector<RankedLogit> all;
    for (size_t i = 0; i < ids; ++i) all.push_back({logits[i], static_cast<int32_t>(i)});
    std::sort(all.begin(), all.end(), ranks_before);
    ASSERT_EQ(std::ssize(found.top), kMostTopLogprobs);
    for (size_t i = 0; i < found.top.size(); ++i) {
      EXPECT_EQ(found.top[i].id, all[i].id);
      EXPECT_NEAR(found.top[i].logprob, exact(all[i].id), 0x1p-39 + 0x1p-52 * 60);
    }
  }
}

TEST(Logprobs, AreOfTheRawLogitsAlsoBehindASampler) {
  const std::vector<float> logits = {1.f, 2.f, 3.f}, before = logits;
  Sampler sampler({.temperature = 0.1, .repetition_penalty = 2, .no_repeat_ngram_size = 1});
  const int32_t id = sampler.next(logits, std::vector<int32_t>{2});
  EXPECT_EQ(id, 1);
  EXPECT_EQ(logits, before);
  const double sum = std::exp(1.) + std::exp(2.) + std::exp(3.);
  EXPECT_NEAR(logprobs_of(logits, id, 1).chosen.logprob, 2 - std::log(sum), 1e-12);
  EXPECT_EQ(logprobs_of(logits, id, 1).top[0].id, 2);
}

TEST(Logprobs, WhatIsOutOfRangeIsRefused) {
  const std::vector<float> logits = {1.f, 2.f};
  EXPECT_THROW(logprobs_of(logits, 0, -1), Error);
  EXPECT_THROW(logprobs_of(logits, 0, kMostTopLogprobs + 1), Error);
  EXPECT_THROW(logprobs_of(logits, 2, 1), Error);
  EXPECT_THROW(logprobs_of(logits, -1, 1), Error);
}

}  // namespace
}  // namespace fovea
