// Goal: quantized rows and products are what quantized.h says, in every variant, touch nothing else, and have
// bits that do not depend on how rows and columns are split.
// Method: exact integer sums over packed weights made here one element at a time, operands that end at
// inaccessible pages, canaries around y; the extremes of 8-bit products, which saturate where they may not.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

constexpr float kCanary = -7.0625e18f;

int64_t padded(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

class QuantizedTest : public testing::TestWithParam<Variant> {
 protected:
  const Kernels& kernels() const { return *GetParam().kernels; }
};
INSTANTIATE_TEST_SUITE_P(Variants, QuantizedTest, testing::ValuesIn(all_variants()), kVariantName);

TEST_P(QuantizedTest, ARowIsItsValuesTimesItsScale) {
  for (const int64_t count : {1, 7, 63, 64, 65, 130, 3420}) {
    const int64_t depth = padded(count, kQuantGroup);
    const GuardedArray<float> x(count);
    const GuardedArray<int8_t> values(depth, int8_t{99});
    const GuardedArray<int32_t> sums(depth / kQuantGroup, 12345);
    Random random("row");
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[i] = random.value() * 5));
    const float scale = kernels().quantize_row(x.data(), count, values.data(), sums.data());
    ASSERT_EQ(scale, largest / 127.f);
    int64_t sum = 0;
    for (int64_t i = 0; i < depth; ++i) {
      const float wanted = i < count ? x[i] : 0.f;
      ASSERT_LE(std::abs(int{values[i]}), 127);
      // Half a step, and the rounding of the inverse and of the product with it.
      ASSERT_NEAR(static_cast<float>(values[i]) * scale, wanted, scale * 0.50002f) << i << " of " << count;
      sum = i % kQuantGroup == 0 ? values[i] : sum + values[i];
      if ((i + 1) % kQuantGroup == 0) {
        ASSERT_EQ(sums[i / kQuantGroup], sum);
      }
    }
  }
}

TEST_P(QuantizedTest, RowsOfZerosAndRowsThatAreNotFinite) {
  std::vector<float> x(70, 0.f);
  std::vector<int8_t> values(128);
  std::vector<int32_t> sums(2);
  const auto scale = [&] { return kernels().quantize_row(x.data(), 70, values.data(), sums.data()); };
  EXPECT_EQ(scale(), 0.f);
  EXPECT_EQ(values, std::vector<int8_t>(128, 0));
  for (const size_t at : {0, 63, 69}) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      x.assign(70, 1.f);
      x[at] = bad;
      EXPECT_FALSE(std::isfinite(scale())) << at << " " << bad;
    }
  }
}

TEST_P(QuantizedTest, AGroupIsFourBitsThatAreNoWorseThanTheSimplestScale) {
  Random random("group");
  for (int round = 0; round < 200; ++round) {
    float w[kQuantGroup], largest = 0;
    for (float& value : w) largest = std::max(largest, std::fabs(value = random.value() * random.value()));
    int8_t values[kQuantGroup];
    const float scale = kernels().quantize_group(w, values);
    ASSERT_EQ(rounded(scale, DType::bf16), scale);
    double error = 0, simplest = 0;
    for (int64_t i = 0; i < kQuantGroup; ++i) {
      ASSERT_TRUE(values[i] >= -8 && values[i] <= 7);
      const double step = double{largest} / 7, q = std::nearbyint(double{w[i]} / step);
      error += std::pow(double{w[i]} - double{scale} * values[i], 2);
      simplest += std::pow(double{w[i]} - step * q, 2);
    }
    // Among its scales is that of 7 steps, but for its rounding to bf16, which moves each value by 7 / 256
    // steps.
    const double moved = std::sqrt(double{kQuantGroup}) * double{largest} / 256;
    ASSERT_LE(std::sqrt(error), std::sqrt(simplest) + moved);
  }
  const float zeros[kQuantGroup] = {};
  int8_t values[kQuantGroup];
  EXPECT_EQ(kernels().quantize_group(zeros, values), 0.f);
  for (const int8_t value : values) EXPECT_EQ(value, 0);
}

// Random weights, packed one by one, and random rows.
struct Product {
  int64_t rows, cols, depth, groups, padded_cols;
  std::vector<int8_t> w;  // [cols, depth]
  GuardedArray<int8_t> x;
  GuardedArray<float> x_scales;
  GuardedArray<int32_t> sums;

  // `extreme`: all values at the ends of their range.
  Product(int64_t row_count, int64_t col_count, int64_t k, int range, bool extreme)
      : rows(row_count),
        cols(col_count),
        depth(padded(k, kQuantGroup)),
        groups(depth / kQuantGroup),
        padded_cols(padded(col_count, kQuantColumns)),
        x(row_count * depth),
        x_scales(row_count),
        sums(row_count * groups, 0) {
    Random random("product");
    const auto value = [&](int most) {
      const auto drawn = static_cast<int>(random.bits() % static_cast<uint64_t>(2 * most + 1)) - most;
      return static_cast<int8_t>(!extreme ? drawn : drawn < 0 ? -most : most);
    };
    for (int64_t i = 0; i < cols * depth; ++i) w.push_back(value(range));
    for (int64_t i = 0; i < rows * depth; ++i) {
      x[i] = extreme ? int8_t{127} : value(127);
      sums[i / kQuantGroup] += x[i];
    }
    for (int64_t r = 0; r < rows; ++r) x_scales[r] = std::ldexp(1.f, static_cast<int>(r % 5) - 3);
  }
  int at(int64_t col, int64_t k) const { return col < cols ? w[static_cast<size_t>(col * depth + k)] : 0; }
  int64_t dot(int64_t row, int64_t col, int64_t begin, int64_t end) const {
    int64_t sum = 0;
    for (int64_t k = begin; k < end; ++k) sum += int64_t{x[row * depth + k]} * at(col, k);
    return sum;
  }
  QuantizedRows quantized_rows(int64_t row) const {
    return {x.data() + row * depth, x_scales.data() + row, sums.data() + row * groups, depth};
  }
};

constexpr int64_t kRowCounts[] = {1, 2, 3, 5, 6, 7, 13};
constexpr int64_t kColCounts[] = {1, 15, 16, 17, 32, 48, 64, 65, 100};
constexpr int64_t kDepths[] = {64, 100, 192, 1024};

GuardedArray<float> result_of(const Product& p) {
  return GuardedArray<float>(p.rows * (p.cols + 3) - 3, kCanary);
}

void expect_canaries(const Product& p, const GuardedArray<float>& y) {
  for (int64_t i = 0; i < y.size(); ++i) {
    if (i % (p.cols + 3) >= p.cols) {
      ASSERT_EQ(y[i], kCanary);
    }
  }
}

// Half of the products get a bias and a rounding.
struct Finish {
  GuardedArray<float> bias;
  bool used;

  explicit Finish(const Product& p) : bias(p.cols), used(p.rows % 2 == 1) {
    for (int64_t n = 0; n < p.cols; ++n) bias[n] = static_cast<float>(n % 11 - 5) * 0.37f;
  }
  void ask(QuantizedProduct& product) const {
    if (!used) return;
    product.bias = bias.data();
    product.round = DType::bf16;
  }
  float of(float result, int64_t n) const { return used ? rounded(result + bias[n], DType::bf16) : result; }
};

struct PackedInt8 {
  GuardedArray<int8_t> values;
  GuardedArray<float> scales;
  explicit PackedInt8(const Product& p) : values(p.padded_cols * p.depth), scales(p.padded_cols) {
    for (int64_t n = 0; n < p.padded_cols; ++n) {
      scales[n] = std::ldexp(1.f, static_cast<int>(n % 7) - 4);
      for (int64_t k = 0; k < p.depth; ++k) {
        const int64_t to = ((n / 16 * (p.depth / 4) + k / 4) * 16 + n % 16) * 4 + k % 4;
        values[to] = static_cast<int8_t>(p.at(n, k));
      }
    }
  }
};

TEST_P(QuantizedTest, Int8ProductsAreExactIntegersTimesTheScales) {
  for (const bool extreme : {false, true}) {
    for (const int64_t depth : kDepths) {
      for (const int64_t cols : kColCounts) {
        for (const int64_t rows : kRowCounts) {
          const Product p(rows, cols, depth, 127, extreme);
          const PackedInt8 w(p);
          const GuardedArray<float> y = result_of(p);
          QuantizedProduct product{
              p.quantized_rows(0), w.values.data(), w.scales.data(), y.data(), cols + 3, rows, cols};
          const Finish finish(p);
          finish.ask(product);
          product.scratch = testing_scratch(kernels().int8_scratch);
          kernels().matmul_int8(product);
          expect_canaries(p, y);
          for (int64_t m = 0; m < rows; ++m) {
            for (int64_t n = 0; n < cols; ++n) {
              const float wanted = static_cast<float>(p.dot(m, n, 0, p.depth)) * p.x_scales[m] * w.scales[n];
              ASSERT_EQ(y[m * (cols + 3) + n], finish.of(wanted, n))
                  << rows << "x" << cols << "x" << depth << " at " << m << "," << n;
            }
          }
        }
      }
    }
  }
}

struct PackedInt4 {
  GuardedArray<uint8_t> values;
  GuardedArray<uint16_t> scales;
  explicit PackedInt4(const Product& p)
      : values(p.padded_cols * p.depth / 2, uint8_t{0}), scales(p.padded_cols * p.groups) {
    for (int64_t n = 0; n < p.padded_cols; ++n) {
      for (int64_t g = 0; g < p.groups; ++g) {
        scales[(n / 16 * p.groups + g) * 16 + n % 16] = bf16_from_f32(scale(n, g));
      }
      for (int64_t k = 0; k < p.depth; ++k) {
        const int64_t within = k % 64, group = n / 16 * p.groups + k / 64;
        const int64_t to = ((group * 8 + within % 32 / 4) * 16 + n % 16) * 4 + k % 4;
        values[to] = static_cast<uint8_t>(values[to] | (p.at(n, k) + 8) << (within / 32 * 4));
      }
    }
  }
  static float scale(int64_t n, int64_t g) { return std::ldexp(1.f, static_cast<int>((n + g) % 6) - 4); }
};

TEST_P(QuantizedTest, Int4ProductsAreExactGroupsTimesTheScales) {
  for (const bool extreme : {false, true}) {
    for (const int64_t depth : kDepths) {
      for (const int64_t cols : kColCounts) {
        for (const int64_t rows : kRowCounts) {
          const Product p(rows, cols, depth, 7, extreme);
          const PackedInt4 w(p);
          const GuardedArray<float> y = result_of(p);
          QuantizedProduct product{
              p.quantized_rows(0), w.values.data(), w.scales.data(), y.data(), cols + 3, rows, cols};
          const Finish finish(p);
          finish.ask(product);
          product.scratch = testing_scratch(kernels().int4_scratch);
          kernels().matmul_int4(product);
          expect_canaries(p, y);
          for (int64_t m = 0; m < rows; ++m) {
            for (int64_t n = 0; n < cols; ++n) {
              double wanted = 0;  // scales are powers of two and sums short: exact in f32 too
              for (int64_t g = 0; g < p.groups; ++g) {
                wanted +=
                    double{PackedInt4::scale(n, g)} * static_cast<double>(p.dot(m, n, g * 64, g * 64 + 64));
              }
              ASSERT_EQ(y[m * (cols + 3) + n],
                        finish.of(static_cast<float>(wanted * double{p.x_scales[m]}), n))
                  << rows << "x" << cols << "x" << depth << " at " << m << "," << n;
            }
          }
        }
      }
    }
  }
}

// More rows, columns and depth than any variant takes at once, against the same in small pieces.
TEST_P(QuantizedTest, LargeProductsHaveTheBitsOfSmallOnes) {
  const Product p(530, 275, 1100, 7, false);
  const PackedInt8 w8(p);
  const PackedInt4 w4(p);
  for (const bool int8 : {true, false}) {
    const auto multiply = [&](QuantizedProduct product) {
      product.scratch = testing_scratch(int8 ? kernels().int8_scratch : kernels().int4_scratch);
      (int8 ? kernels().matmul_int8 : kernels().matmul_int4)(product);
    };
    const GuardedArray<float> whole = result_of(p), pieces = result_of(p);
    const auto columns_from = [&](int64_t n) -> std::pair<const void*, const void*> {
      if (int8) return {w8.values.data() + n * p.depth, w8.scales.data() + n};
      return {w4.values.data() + n * p.depth / 2, w4.scales.data() + n * p.groups};
    };
    const auto [values, scales] = columns_from(0);
    multiply({p.quantized_rows(0), values, scales, whole.data(), p.cols + 3, p.rows, p.cols});
    for (int64_t n = 0; n < p.cols; n += 80) {
      const auto [some_values, some_scales] = columns_from(n);
      for (int64_t m = 0; m < p.rows; m += 3) {
        multiply({p.quantized_rows(m), some_values, some_scales, pieces.data() + m * (p.cols + 3) + n,
                  p.cols + 3, std::min<int64_t>(3, p.rows - m), std::min<int64_t>(80, p.cols - n)});
      }
    }
    for (int64_t i = 0; i < whole.size(); ++i)
      ASSERT_EQ(whole[i], pieces[i]) << (int8 ? "int8 " : "int4 ") << i;
  }
}

TEST_P(QuantizedTest, EveryCountOfFewRowsHasTheBitsOfEachRowAlone) {
  const Product p(Kernels::kFewRows, 101, 1100, 7, false);
  const PackedInt8 w8(p);
  const PackedInt4 w4(p);
  const int64_t stride = p.cols + 3;
  for (const bool int8 : {true, false}) {
    const auto multiply = [&](int64_t row, int64_t rows, const GuardedArray<float>& y) {
      QuantizedProduct product{p.quantized_rows(row),
                               w4.values.data(),
                               w4.scales.data(),
                               y.data() + row * stride,
                               stride,
                               rows,
                               p.cols};
      if (int8) {
        product.values = w8.values.data();
        product.scales = w8.scales.data();
      }
      product.scratch = testing_scratch(int8 ? kernels().int8_scratch : kernels().int4_scratch);
      (int8 ? kernels().matmul_int8 : kernels().matmul_int4)(product);
    };
    const GuardedArray<float> alone = result_of(p);
    for (int64_t m = 0; m < p.rows; ++m) multiply(m, 1, alone);
    for (int64_t rows = 1; rows <= p.rows; ++rows) {
      const GuardedArray<float> together = result_of(p);
      multiply(0, rows, together);
      for (int64_t i = 0; i < together.size(); ++i) {
        ASSERT_EQ(together[i], i < rows * stride ? alone[i] : kCanary)
            << (int8 ? "int8 " : "int4 ") << rows << " rows, element " << i;
      }
    }
  }
}

TEST_P(QuantizedTest, EveryVariantHasTheBitsOfTheScalarOne) {
  const Kernels& scalar = *available_kernels().front();
  std::vector<float> x(1000);
  Random random("bits");
  for (float& value : x) value = random.value() * 3;
  std::vector<int8_t> values(1024), expected(1024);
  std::vector<int32_t> sums(16), expected_sums(16);
  EXPECT_EQ(kernels().quantize_row(x.data(), 1000, values.data(), sums.data()),
            scalar.quantize_row(x.data(), 1000, expected.data(), expected_sums.data()));
  EXPECT_EQ(values, expected);
  EXPECT_EQ(sums, expected_sums);
}

}  // namespace
}  // namespace fovea
