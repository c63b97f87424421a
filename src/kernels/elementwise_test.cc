// Goal: what stands between projections and attention rounds where kernels.h says, in every variant, and
// stays in its memory. Method: the formula in scalar f32 with explicit roundings, to the bit (f64 within a
// bound where an exponential is in it); lengths around every vector width; guard pages.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};

class ElementwiseKernels : public testing::TestWithParam<Variant> {
 protected:
  const Kernels& kernels() const { return *GetParam().kernels; }

  static void for_counts_and_types(const std::function<void(int64_t, DType)>& test) {
    for (const int64_t count : {0, 1, 5, 7, 8, 9, 15, 16, 17, 31, 32, 40, 64, 80, 83}) {
      for (const DType type : kTypes) {
        SCOPED_TRACE(testing::Message() << count << " of " << name_of(type));
        test(count, type);
        if (HasFatalFailure()) return;
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Variants, ElementwiseKernels, testing::ValuesIn(all_variants()), kVariantName);

void fill(const GuardedArray<float>& x, std::string_view seed, float size) {
  Random random(seed);
  for (int64_t i = 0; i < x.size(); ++i) x[i] = size * random.value();
}

TEST_P(ElementwiseKernels, SumOfSquaresHasEightPartialSums) {
  for_counts_and_types([&](int64_t count, DType) {
    const GuardedArray<float> x(count);
    fill(x, "squares", 3.f);
    float part[8] = {};
    for (int64_t i = 0; i < count; ++i) part[i % 8] += x[i] * x[i];
    const float wanted =
        ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    ASSERT_EQ(kernels().sum_of_squares(x.data(), count), wanted);
  });
}

TEST_P(ElementwiseKernels, ScaleAndWeighRoundsTwice) {
  for_counts_and_types([&](int64_t count, DType type) {
    const GuardedArray<float> x(count), weight(count), out(count);
    fill(x, "x", 5.f);
    fill(weight, "weight", 2.f);
    kernels().scale_and_weigh(x.data(), 0.37f, weight.data(), out.data(), count, type);
    for (int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(out[i], rounded(rounded(x[i] * 0.37f, type) * weight[i], type)) << i;
    }
  });
}

TEST_P(ElementwiseKernels, ScaleRoundsTheProductAlsoInPlace) {
  for_counts_and_types([&](int64_t count, DType type) {
    const GuardedArray<float> x(count), out(count);
    fill(x, "x", 5.f);
    kernels().scale(x.data(), 0.7f, out.data(), count, type);
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(out[i], rounded(x[i] * 0.7f, type)) << i;
    kernels().scale(x.data(), 0.7f, x.data(), count, type);
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(x[i], out[i]) << i;
  });
}

TEST_P(ElementwiseKernels, AddRoundsTheSum) {
  for_counts_and_types([&](int64_t count, DType type) {
    const GuardedArray<float> x(count), y(count), before(count);
    fill(x, "addend", 5.f);
    fill(y, "sum", 50.f);
    fill(before, "sum", 50.f);
    kernels().add_rounded(y.data(), x.data(), count, type);
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(y[i], rounded(before[i] + x[i], type)) << i;
  });
}

// silu before its rounding: the exponential is within 2^-21, the sum, the quotient and what the exponential
// adds within an ulp each; a value that near a boundary of `type` may round either way.
TEST_P(ElementwiseKernels, SiluTimesIsWithinItsBound) {
  for_counts_and_types([&](int64_t count, DType type) {
    const GuardedArray<float> gate(count), up(count), before(count);
    fill(gate, "gate", 20.f);
    fill(before, "gate", 20.f);
    fill(up, "up", 3.f);
    if (count > 3) gate[0] = before[0] = -200.f;  // exp overflows f32 on the way; the result is zero
    kernels().silu_times(gate.data(), up.data(), count, type);
    for (int64_t i = 0; i < count; ++i) {
      const double x = before[i], silu = x / (1 + std::exp(-x)), off = std::fabs(silu) * 0x1p-20 + 1e-34;
      const float low = rounded(static_cast<float>(silu - off), type),
                  high = rounded(static_cast<float>(silu + off), type);
      const float one = rounded(low * up[i], type), other = rounded(high * up[i], type);
      ASSERT_GE(gate[i], std::min(one, other)) << i;
      ASSERT_LE(gate[i], std::max(one, other)) << i;
    }
  });
}

TEST_P(ElementwiseKernels, SiluTimesKeepsNaN) {
  float gate[3] = {1.f, std::numeric_limits<float>::quiet_NaN(), 2.f};
  const float up[3] = {1.f, 1.f, 1.f};
  kernels().silu_times(gate, up, 3, DType::bf16);
  EXPECT_FALSE(std::isnan(gate[0]));
  EXPECT_TRUE(std::isnan(gate[1]));
}

TEST_P(ElementwiseKernels, RotateRoundsStepsAndResult) {
  constexpr int64_t kHeads = 3;
  for_counts_and_types([&](int64_t pairs, DType steps) {
    for (const DType result : kTypes) {
      const GuardedArray<float> x(kHeads * 2 * pairs), before(kHeads * 2 * pairs), cos(pairs), sin(pairs);
      fill(x, "heads", 4.f);
      fill(before, "heads", 4.f);
      fill(cos, "cos", 1.f);
      fill(sin, "sin", 1.f);
      kernels().rotate(x.data(), kHeads, cos.data(), sin.data(), pairs, steps, result);
      const auto step = [&](float v) { return rounded(v, steps); };
      for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t i = 0; i < pairs; ++i) {
          const int64_t at = h * 2 * pairs + i;
          const float a = before[at], b = before[at + pairs];
          ASSERT_EQ(x[at], rounded(step(a * cos[i]) + step(-b * sin[i]), result));
          ASSERT_EQ(x[at + pairs], rounded(step(b * cos[i]) + step(a * sin[i]), result));
        }
      }
    }
  });
}

TEST_P(ElementwiseKernels, AllFiniteSeesEveryPlace) {
  for (int64_t count = 0; count <= 40; ++count) {
    const GuardedArray<float> x(count, 3e38f);
    ASSERT_TRUE(kernels().all_finite(x.data(), count));
    for (int64_t place = 0; place < count; ++place) {
      for (const float bad : {INFINITY, -INFINITY, NAN}) {
        x[place] = bad;
        ASSERT_FALSE(kernels().all_finite(x.data(), count)) << count << " at " << place;
      }
      x[place] = -3e38f;
    }
  }
}

// Halves of a step and a subnormal.
TEST_P(ElementwiseKernels, TiesRoundToEven) {
  const float ties[] = {1.f + 0x1p-8f, 1.f + 3 * 0x1p-8f, -1.f - 0x1p-8f, 0x1p-133f};
  float y[4] = {0.f, 0.f, 0.f, 0.f};
  kernels().add_rounded(y, ties, 4, DType::bf16);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(y[i], rounded(ties[i], DType::bf16)) << i;
}

}  // namespace
}  // namespace fovea
