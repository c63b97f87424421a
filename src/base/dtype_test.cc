// Goal: conversions are exact round-to-nearest-even. Method: exhaustive over 16-bit patterns, and midpoints.
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fovea {
namespace {

TEST(DType, EveryF16SurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f32_from_f16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f16_from_f32(value), bits) << value;
  }
}

TEST(DType, F16RoundsMidpointsToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = f32_from_f16(static_cast<uint16_t>(bits)),
                high = f32_from_f16(static_cast<uint16_t>(bits + 1));
    const float middle = (low + high) / 2;  // exact: f32 has 13 more bits
    ASSERT_EQ(f16_from_f32(middle), bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(f16_from_f32(std::nextafter(middle, high)), bits + 1);
    ASSERT_EQ(f16_from_f32(std::nextafter(middle, low)), bits);
  }
  EXPECT_EQ(f16_from_f32(65519.99f), 0x7bff);
  EXPECT_EQ(f16_from_f32(65520.f), 0x7c00);
}

TEST(DType, Bf16RoundsMidpointsToEven) {
  for (uint32_t bits = 0; bits < 0x7f7f; ++bits) {
    const float middle = std::bit_cast<float>((bits << 16) | 0x8000u);
    ASSERT_EQ(bf16_from_f32(middle), bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(bf16_from_f32(std::bit_cast<float>((bits << 16) | 0x8001u)), bits + 1);
    ASSERT_EQ(bf16_from_f32(std::bit_cast<float>((bits << 16) | 0x7fffu)), bits);
  }
}

TEST(DType, NanStaysNan) {
  EXPECT_TRUE(std::isnan(rounded(std::nanf(""), DType::bf16)));
  EXPECT_TRUE(std::isnan(rounded(std::nanf(""), DType::f16)));
}

}  // namespace
}  // namespace fovea
