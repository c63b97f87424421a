// Goal: max_value, exp_sum and scale keep what kernels.h promises, in every variant.
// Method: a dense sweep of exp against f64, exact edge cases, sums against f64 within gamma(n), guard pages.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class SoftmaxParts : public testing::TestWithParam<Variant> {
 protected:
  const Kernels& kernels() const { return *GetParam().kernels; }
  float exp_of(float x) const {
    kernels().exp_sum(&x, 1, 1.f, 0.f);
    return x;
  }
  // The largest |exp_sum - exp| / exp over every 61st float between 0 and `end` (of either sign).
  double worst_relative_error(float end) const {
    const uint32_t sign = std::bit_cast<uint32_t>(end) & 0x80000000u,
                   last = std::bit_cast<uint32_t>(std::fabs(end));
    std::vector<float> arguments, results;
    double worst = 0;
    for (uint32_t bits = 0; bits <= last;) {
      arguments.clear();
      for (; bits <= last && arguments.size() < 4096; bits += 61)
        arguments.push_back(std::bit_cast<float>(sign | bits));
      results = arguments;
      kernels().exp_sum(results.data(), static_cast<int64_t>(results.size()), 1.f, 0.f);
      for (size_t i = 0; i < results.size(); ++i) {
        const double wanted = std::exp(double{arguments[i]}), error = std::fabs(results[i] - wanted) / wanted;
        if (!(error <= worst)) worst = error;
      }
    }
    return worst;
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, SoftmaxParts, testing::ValuesIn(all_variants()), kVariantName);

TEST_P(SoftmaxParts, ExpIsWithinItsPromise) {
  const double below = worst_relative_error(-87.3f), above = worst_relative_error(80.f);
  std::printf("  %s: largest relative error of exp 2^%.2f on [-87.3, 0], 2^%.2f on [0, 80]\n", kernels().name,
              std::log2(below), std::log2(above));
  EXPECT_LT(below, 0x1p-21);
  EXPECT_LT(above, 0x1p-21);
  EXPECT_EQ(exp_of(0.f), 1.f);
  EXPECT_EQ(exp_of(-0.f), 1.f);
}

TEST_P(SoftmaxParts, ExpOfExtremes) {
  for (const float x : {-kInfinity, std::nextafter(-87.3f, -100.f), -88.f, -1000.f, -3e38f})
    EXPECT_EQ(exp_of(x), 0.f) << x;
  EXPECT_GT(exp_of(-87.3f), 0.f);
  for (const float x : {89.f, 1000.f, 3e38f, kInfinity}) EXPECT_EQ(exp_of(x), kInfinity) << x;
  for (const int64_t count : {1, 8, 16, 40}) {  // NaN in the last lane, whole vector or partial
    std::vector<float> x(static_cast<size_t>(count), 0.f);
    x.back() = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(kernels().exp_sum(x.data(), count, 1.f, 0.f))) << count;
    EXPECT_TRUE(std::isnan(x.back()));
    for (int64_t i = 0; i + 1 < count; ++i) EXPECT_EQ(x[i], 1.f);
  }
}

TEST_P(SoftmaxParts, ExpScalesAndShiftsItsArgument) {
  Random random("exp_argument");
  std::vector<float> x, wanted;
  for (int i = 0; i < 1000; ++i) {
    x.push_back(random.value() * 50.f);
    // The argument is rounded as the variant rounds a * b + c; the result is then the same as of that
    // argument.
    const float argument =
        GetParam().fused ? std::fma(x.back(), 0.0883883f, -3.7f) : x.back() * 0.0883883f + -3.7f;
    wanted.push_back(exp_of(argument));
  }
  kernels().exp_sum(x.data(), 1000, 0.0883883f, 3.7f);
  EXPECT_EQ(x, wanted);
}

TEST_P(SoftmaxParts, SumIsOfItsResults) {
  for (const int64_t count : {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 40, 128, 1000, 4096}) {
    Random random("exp_sum");
    const GuardedArray<float> x(count + 1, 55.f);
    for (int64_t i = 1; i <= count; ++i) x[i] = random.value() * 10 - 10;
    const float sum = kernels().exp_sum(x.data() + 1, count, 1.f, 0.f);
    ASSERT_EQ(x[0], 55.f);
    double wanted = 0;
    for (int64_t i = 1; i <= count; ++i) wanted += x[i];
    // Sequential in each lane, then a tree over at most 16 lanes; every term is positive.
    const double roundings =
        static_cast<double>((count + GetParam().width - 1) / GetParam().width + 4) * 0x1p-24;
    ASSERT_TRUE(std::fabs(sum - wanted) <= roundings / (1 - roundings) * wanted)
        << count << ": " << sum << " " << wanted;
  }
}

TEST_P(SoftmaxParts, MaxValueFindsTheLargestAnywhere) {
  EXPECT_EQ(kernels().max_value(nullptr, 0), -kInfinity);
  for (int64_t count = 1; count <= 40; ++count) {
    const GuardedArray<float> x(count, -kInfinity);
    ASSERT_EQ(kernels().max_value(x.data(), count), -kInfinity);
    for (int64_t place = 0; place < count; ++place) {
      for (const float largest : {-3e38f, -1.f, -0.f, 2.f, kInfinity}) {
        x[place] = largest;
        ASSERT_EQ(kernels().max_value(x.data(), count), largest) << count << " at " << place;
      }
      x[place] = -kInfinity;
    }
  }
}

}  // namespace
}  // namespace fovea
