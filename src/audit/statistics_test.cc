// Goal: the statistics of an audit are the textbook's. Method: published and hand-computed values; the f64
// formula of KL on distributions where it has a closed form.
#include "audit/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fovea {
namespace {

TEST(Statistics, WilsonAgainstKnownValues) {
  // The formula in 40-digit decimals; 81 of 263 is Newcombe's example (1998), published as 0.2553 to 0.3662.
  const struct {
    int64_t correct, count;
    double low, high;
  } cases[] = {{0, 10, 0, 0.27753279986288925},
               {10, 10, 0.72246720013711075, 1},
               {5, 10, 0.23659309051256398, 0.76340690948743602},
               {81, 263, 0.25528851987827423, 0.36620957698280007},
               {1, 1, 0.20654931437723733, 1},
               {39, 40, 0.87118631036525908, 0.99557316849731860}};
  for (const auto& c : cases) {
    const Interval interval = wilson_interval(c.correct, c.count);
    EXPECT_NEAR(interval.low, c.low, 1e-14) << c.correct << "/" << c.count;
    EXPECT_NEAR(interval.high, c.high, 1e-14) << c.correct << "/" << c.count;
  }
  EXPECT_EQ(wilson_interval(0, 0).low, 0);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(Statistics, Quantile) {
  EXPECT_EQ(quantile({3}, 0.5), 3);
  EXPECT_EQ(quantile({1, 2}, 0.5), 1.5);
  EXPECT_EQ(quantile({0, 10, 20, 30, 40}, 0.95), 38);
  EXPECT_EQ(quantile({1, 2, 3}, 1), 3);
}

TEST(Statistics, KlOfIdenticalIsExactlyZero) {
  const std::vector<float> logits = {-3.5f, 0, 88, -1e30f, 87.5f};
  EXPECT_EQ(kl_divergence(logits.data(), logits.data(), 5), 0);
}

TEST(Statistics, KlAgainstClosedForms) {
  // p = (1/2, 1/2), q = (1/4, 3/4): ln 2 - 1/2 ln 3 + ... = 1/2 ln(4/3). f32 logits: ln 3 is rounded to 2^-24
  // relative, and dKL/dlogit is below 1: 1e-7 is the bound.
  const float p[] = {0, 0}, q[] = {0, std::log(3.0f)};
  EXPECT_NEAR(kl_divergence(p, q, 2), 0.5 * std::log(4.0 / 3), 1e-7);
  // A shift of all logits changes nothing but the rounding of numbers of that size in f64.
  const float shifted[] = {4096, 4096};
  EXPECT_NEAR(kl_divergence(shifted, q, 2), kl_divergence(p, q, 2), 4 * 4096 * 0x1p-52);
  // Certain against uniform over 4: ln 4, exp(-200) being nothing in f64's 53 bits.
  const float certain[] = {200, 0, 0, 0}, uniform[] = {1, 1, 1, 1};
  EXPECT_NEAR(kl_divergence(certain, uniform, 4), std::log(4.0), 1e-14);
}

}  // namespace
}  // namespace fovea
