// Goal: rotary frequencies with YaRN are those of transformers. Method: numbers that
// ROPE_INIT_FUNCTIONS["yarn"] of transformers 4.57.6 and 5.24.0 (which agree) returns for the configs below,
// as f32.
#include "model/text_frequencies.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/elementwise.h"

namespace fovea {
namespace {

TextConfig config(int64_t head_dim, double theta, const YarnScaling& yarn) {
  TextConfig text;
  text.head_dim = head_dim;
  text.rope_theta = theta;
  text.yarn = yarn;
  return text;
}

// Bounds 23 and 40 of 64 pairs: what lies before stays, what lies behind is divided by 4.
const TextConfig kPublished = config(128, 1e6, {4, 32768, 32, 1, 1.138629436111989, true});

// torch's power of floats is within one unit in the last place, the reciprocal and each product and sum of
// what follows within half a unit; the weights of the mixture come from exact operations and one division.
// Four units bound them all.
void expect_near(double actual, double expected, double units = 4) {
  EXPECT_NEAR(actual, expected, units * 0x1p-23 * expected);
}

TEST(TextFrequencies, ArePlainWithoutYarn) {
  TextConfig text;
  for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
    EXPECT_EQ(text_frequencies(text, type), inverse_frequencies(text.rope_theta, text.head_dim, type));
  }
  EXPECT_EQ(text_rotary_scale(text), 1.f);
}

TEST(TextFrequencies, OfThePublishedScalingAreThoseOfTransformers) {
  // every fourth pair
  const std::vector<double> expected = {0x1p+0,         0x1.afd136p-2,  0x1.6c310ep-3,  0x1.33281ap-4,
                                        0x1.030dc6p-5,  0x1.b4f7e4p-7,  0x1.6046eep-8,  0x1.e483bep-10,
                                        0x1.3c1d64p-11, 0x1.79277cp-13, 0x1.74eea6p-15, 0x1.3a8748p-16,
                                        0x1.094564p-17, 0x1.bf749ep-19, 0x1.796182p-20, 0x1.3e47c8p-21};
  const std::vector<double> actual = text_frequencies(kPublished, DType::f32);
  ASSERT_EQ(actual.size(), 64u);
  for (size_t i = 0; i < expected.size(); ++i) expect_near(actual[4 * i], expected[i]);
  EXPECT_EQ(text_rotary_scale(kPublished), 1.138629436111989f);
}

TEST(TextFrequencies, OfOtherBoundsAreThoseOfTransformers) {
  const struct {
    double theta;
    YarnScaling yarn;
    std::vector<double> expected;
  } cases[] = {{1e6,
                {4, 1000, 32, 1, 1.138629436111989, true},
                {0x1p+0, 0x1.1124cap-3, 0x1.030dc6p-6, 0x1.708938p-10, 0x1.0624dep-12, 0x1.74eea6p-15,
                 0x1.094564p-17, 0x1.796182p-20}},
               {1e4,  // bounds between two pairs
                {2.5, 256, 8, 2, 0.9508743010333485, false},
                {0x1p+0, 0x1.43d136p-2, 0x1.21fc52p-4, 0x1.9e7c7p-7, 0x1.0624dep-8, 0x1.4b96cp-10,
                 0x1.a36e2ep-12, 0x1.094566p-13}},
               {1e6,  // both bounds at the first pair: a step
                {8, 4, 32, 1, 1.25, true},
                {0x1p+0, 0x1.6c310ep-6, 0x1.030dc6p-8, 0x1.708938p-11, 0x1.0624dep-13, 0x1.74eea6p-16,
                 0x1.094564p-18, 0x1.796182p-21}}};
  for (const auto& c : cases) {
    const std::vector<double> actual = text_frequencies(config(16, c.theta, c.yarn), DType::f32);
    ASSERT_EQ(actual.size(), c.expected.size());
    for (size_t i = 0; i < actual.size(); ++i) expect_near(actual[i], c.expected[i]);
  }
}

TEST(TextFrequencies, InF64AreTheSameUnrounded) {
  const std::vector<double> exact = text_frequencies(kPublished, DType::f64),
                            single = text_frequencies(kPublished, DType::f32);
  for (size_t i = 0; i < exact.size(); ++i) {
    expect_near(single[i], exact[i],
                8);  // a weight is off by half a unit of 1, which the factor, 4, enlarges
    EXPECT_EQ(text_frequencies(kPublished, DType::bf16)[i],
              double{rounded(static_cast<float>(single[i]), DType::bf16)});
  }
}

// The extremes that a config may state (checkpoint/rope_config.cc).
TEST(TextFrequencies, AreFiniteWhateverTheConfigSays) {
  for (const double factor : {1.0, 1e6}) {
    for (const int64_t original : {int64_t{1}, int64_t{1} << 31}) {
      for (const double fast : {1e-3, 1e6}) {
        for (const double slow : {1e-3, 1e6}) {
          for (const double theta : {1 + 1e-15, 1e15}) {
            for (const bool truncate : {true, false}) {
              const TextConfig text = config(16, theta, {factor, original, fast, slow, 1, truncate});
              for (const DType type : {DType::f32, DType::f64}) {
                for (const double frequency : text_frequencies(text, type)) {
                  EXPECT_TRUE(std::isfinite(frequency) && frequency >= 0 && frequency <= 1) << frequency;
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST(TextFrequencies, CosAndSinAreScaledBeforeTheyAreRounded) {
  RopeTable table;
  table.pairs = 1;
  table.cos.resize(1);
  table.sin.resize(1);
  const float scale = 1.138629436111989f;
  for (const DType type : {DType::f32, DType::bf16}) {
    set_rope_row(table, 0, {0.5}, type, scale);
    EXPECT_EQ(table.cos[0], rounded(static_cast<float>(std::cos(0.5)) * scale, type));
    EXPECT_EQ(table.sin[0], rounded(static_cast<float>(std::sin(0.5)) * scale, type));
  }
}

}  // namespace
}  // namespace fovea
