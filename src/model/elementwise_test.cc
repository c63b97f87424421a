// Goal: each node rounds where the reference stores a tensor. Method: the formula in f64, with explicit
// roundings.
#include "model/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace fovea {
namespace {

// A portable sequence in [-4, 4).
float value(uint64_t i) {
  uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  return static_cast<float>(static_cast<double>(z >> 40) * 0x1p-24 * 8 - 4);
}

std::vector<float> values(size_t count, uint64_t seed, DType type) {
  std::vector<float> result(count);
  for (size_t i = 0; i < count; ++i) result[i] = rounded(value(seed * 100003 + i), type);
  return result;
}

// Two values that went through the same roundings from intermediates that differ by a few f32 ulp are either
// equal or neighbours in the storage type.
void expect_neighbours(float actual, double exact, DType type, const char* what) {
  const double spacing = std::max(std::fabs(exact), 1e-30) * epsilon_of(type);
  EXPECT_NEAR(static_cast<double>(actual), exact, type == DType::f32 ? 8 * spacing : spacing) << what;
}

TEST(Elementwise, RmsNormRoundsTwice) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    const size_t width = 83;
    const auto x = values(2 * width, 1, type), w = values(width, 2, type);
    std::vector<float> out(2 * width);
    rms_norm(process_context(), x.data(), w, 1e-6f, type, out.data(), 2);
    for (size_t r = 0; r < 2; ++r) {
      double sum = 0;
      for (size_t i = 0; i < width; ++i) sum += std::pow(static_cast<double>(x[r * width + i]), 2);
      const double inverse = 1 / std::sqrt(sum / static_cast<double>(width) + 1e-6);
      for (size_t i = 0; i < width; ++i) {
        const float normed =
            rounded(static_cast<float>(static_cast<double>(x[r * width + i]) * inverse), type);
        // One neighbour from each of the two roundings.
        EXPECT_NEAR(out[r * width + i], rounded(normed * w[i], type),
                    2 * epsilon_of(type) * std::fabs(normed * w[i]) * (type == DType::f32 ? 4 : 1));
      }
    }
  }
}

// 1 + 4096 ones beside 2^13: f32 squares of 2^26 swallow every 1, f64 keeps them.
TEST(Elementwise, RmsNormStatisticsInF64KeepWhatF32Loses) {
  std::vector<float> x(4097, 1.f), w(4097, 1.f), wide(4097), exact(4097);
  for (size_t i = 0; i < 8; ++i) x[i] = 8192.f;  // one per partial sum of the f32 path
  rms_norm(process_context(), x.data(), w, 1e-6f, DType::f32, wide.data(), 1);
  rms_norm(process_context(), x.data(), w, 1e-6f, DType::f32, exact.data(), 1, DType::f64);
  const double mean = (8 * 0x1p26 + 4089) / 4097;
  const double truth = 1 / std::sqrt(mean + double{1e-6f});
  // One rounding of the result.
  EXPECT_NEAR(double{exact[4000]}, truth, truth * 0x1p-24);
  EXPECT_GT(std::abs(double{wide[4000]} - truth),
            truth * 0x1p-20);  // control: 4089 / 2^29 is lost, halved by the root
}

TEST(Elementwise, SiluTimesUp) {
  for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
    auto gate = values(5000, 3, type);
    const auto up = values(5000, 4, type), before = gate;
    gate[0] = -200;  // exp overflows f32 on the way; the result is zero
    silu_times(process_context(), gate.data(), up.data(), 5000, type);
    EXPECT_NEAR(gate[0], 0, 1e-30);
    for (size_t i = 1; i < gate.size(); ++i) {
      const double x = static_cast<double>(before[i]);
      const double silu = static_cast<double>(rounded(static_cast<float>(x / (1 + std::exp(-x))), type));
      expect_neighbours(gate[i], silu * static_cast<double>(up[i]) * 1, type, "silu");
      if (HasFailure()) return;
    }
  }
}

TEST(Elementwise, RopeRoundsOnceOrThreeTimes) {
  const int64_t pairs = 5, heads = 2, rows = 3;
  for (const DType steps : {DType::f32, DType::bf16}) {
    RopeTable table{std::vector<float>(15), std::vector<float>(15), pairs};
    for (int64_t r = 0; r < rows; ++r) {
      const auto angles = values(5, static_cast<uint64_t>(r), DType::f32);
      set_rope_row(table, r, {angles.begin(), angles.end()}, steps);
    }
    auto x = values(static_cast<size_t>(rows * heads * 2 * pairs), 9, DType::bf16);
    const auto before = x;
    apply_rope(process_context(), x.data(), 0, rows, heads, heads * 2 * pairs, table, steps, DType::bf16);
    for (int64_t i = 0; i < rows * heads * pairs; ++i) {
      const int64_t r = i / (heads * pairs), p = i % pairs, at = i / pairs * 2 * pairs + p;
      const auto pair = static_cast<size_t>(r * pairs + p);
      const float first = before[static_cast<size_t>(at)], second = before[static_cast<size_t>(at + pairs)];
      const float c = table.cos[pair], s = table.sin[pair];
      EXPECT_EQ(x[static_cast<size_t>(at)],
                rounded(rounded(first * c, steps) + rounded(-second * s, steps), DType::bf16));
      EXPECT_EQ(x[static_cast<size_t>(at + pairs)],
                rounded(rounded(second * c, steps) + rounded(first * s, steps), DType::bf16));
    }
  }
}

TEST(Elementwise, NonFiniteValuesNameTheirStage) {
  std::vector<float> x(1000, 1.f);
  EXPECT_NO_THROW(require_finite(kernels(), x.data(), 1000, "a stage"));
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    x[777] = bad;
    try {
      require_finite(kernels(), x.data(), 1000, "decoder layer 3");
      FAIL() << "not noticed";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("decoder layer 3"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace fovea
