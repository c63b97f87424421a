// Goal: the packed native-bf16 form of flash attention computes softmax(scale q k) v within its rounding
// bound, touches nothing else, and a row's bits do not depend on the rows beside it. Method: f64 softmax over
// several tiles, causal and not, sizes around every block size; operands end at inaccessible pages; every
// variant with native bf16, the emulated one on any machine with AVX2.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/guarded_memory_testing.h"
#include "kernels/random_testing.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kTile = FlashTile::kKeys;

std::vector<Variant> native_variants() {
  std::vector<Variant> variants;
  for (const Variant& variant : all_variants()) {
    if (variant.kernels->flash_tile) variants.push_back(variant);
  }
  return variants;
}

struct Bf16Values : GuardedArray<uint16_t> {
  Bf16Values(std::string_view seed, int64_t count, float size) : GuardedArray(count) {
    Random random(seed);
    for (int64_t i = 0; i < count; ++i) (*this)[i] = bf16_from_f32(random.value() * size);
  }
};

// One head: rows = queries * group, every query sees `past` + its index + 1 keys, or all.
struct Head {
  int64_t rows, group, head_dim, keys, past;
  float scale = 0.125f * std::numbers::log2e_v<float>;
  Bf16Values q, k, v;

  Head(int64_t row_count, int64_t of_group, int64_t dim, int64_t key_count, int64_t before)
      : rows(row_count),
        group(of_group),
        head_dim(dim),
        keys(key_count),
        past(before),
        q("q", row_count * dim, 3.f),
        k("k", key_count * dim, 3.f),
        v("v", key_count * dim, 2.f) {}

  int64_t visible(int64_t row) const { return std::clamp<int64_t>(past + row / group + 1, 0, keys); }
};

struct Result {
  GuardedArray<float> shift, sum, out;
  explicit Result(const Head& head)
      : shift(head.rows, -kInfinity), sum(head.rows, 0.f), out(head.rows * head.head_dim, 0.f) {}
};

// Rows [first, first + count) through all tiles, `first` a multiple of the group.
void attend(const Kernels& kernels, const Head& head, int64_t first, int64_t count, const Result& to) {
  const int64_t d = head.head_dim;
  const GuardedArray<uint16_t> k(kTile * d), v(kTile * d);
  for (int64_t key = 0; key < head.keys; key += kTile) {
    const int64_t now = std::min(kTile, head.keys - key);
    kernels.pack_flash_keys(head.k.data() + key * d, d, now, d, k.data());
    kernels.pack_flash_values(head.v.data() + key * d, d, now, d, v.data());
    kernels.flash_tile({.q = head.q.data() + first * d,
                        .k = k.data(),
                        .v = v.data(),
                        .rows = count,
                        .head_dim = d,
                        .keys = now,
                        .visible = head.past + first / head.group + 1 - key,
                        .group = head.group,
                        .scale = head.scale,
                        .shift = to.shift.data() + first,
                        .sum = to.sum.data() + first,
                        .out = to.out.data() + first * d});
  }
}

class FlashTileTest : public testing::TestWithParam<Variant> {
 protected:
  const Kernels& kernels() const { return *GetParam().kernels; }
};
INSTANTIATE_TEST_SUITE_P(Variants, FlashTileTest, testing::ValuesIn(native_variants()), kVariantName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FlashTileTest);

TEST_P(FlashTileTest, PackedKeysAndValuesLieAsStated) {
  for (const int64_t d : {16, 32, 48, 64, 80, 128, 144}) {
    for (const int64_t count : {1, 2, 15, 16, 17, 31, 63, 64}) {
      const int64_t stride = d + 6;
      const Bf16Values rows("rows", (count - 1) * stride + d, 1.f);
      const GuardedArray<uint16_t> k(kTile * d, uint16_t{0xffff}), v(kTile * d, uint16_t{0xffff});
      kernels().pack_flash_keys(rows.data(), stride, count, d, k.data());
      kernels().pack_flash_values(rows.data(), stride, count, d, v.data());
      for (int64_t key = 0; key < kTile; ++key) {
        for (int64_t c = 0; c < d; ++c) {
          const uint16_t wanted = key < count ? rows[key * stride + c] : uint16_t{0};
          ASSERT_EQ(k[(c / 2 * kTile + key) * 2 + c % 2], wanted) << d << ": key " << key << " of " << count;
          ASSERT_EQ(v[(key / 2 * d + c) * 2 + key % 2], wanted) << d << ": key " << key << " of " << count;
        }
      }
    }
  }
}

// |scores| and their f64 values in powers of two, for one row.
struct TrueRow {
  std::vector<double> scores, magnitudes;
  double highest = -kInfinity, largest_magnitude = 0;

  TrueRow(const Head& head, int64_t row) {
    for (int64_t key = 0; key < head.visible(row); ++key) {
      double score = 0, magnitude = 0;
      for (int64_t c = 0; c < head.head_dim; ++c) {
        const double product = double{f32_from_bf16(head.q[row * head.head_dim + c])} *
                               double{f32_from_bf16(head.k[key * head.head_dim + c])};
        score += product;
        magnitude += std::fabs(product);
      }
      scores.push_back(score * double{head.scale});
      highest = std::max(highest, scores.back());
      largest_magnitude = std::max(largest_magnitude, magnitude * double{head.scale});
    }
  }
};

// out / sum against the f64 softmax. Relative error of one exponential: ln 2 times the absolute error of its
// argument (head_dim + 2 roundings of the score, one of the shift, one of the fused multiply-add, each at
// most as large as the largest score's magnitude times u), plus 2^-21 by promise. A weight of the product
// with V: that and 2^-8 for bf16. Sums over n keys and their rescaling: n + 3 tiles roundings.
void expect_near_truth(const Head& head, const Result& result) {
  const int64_t tiles = (head.keys + kTile - 1) / kTile;
  for (int64_t row = 0; row < head.rows; ++row) {
    const TrueRow truth(head, row);
    if (truth.scores.empty()) {
      ASSERT_EQ(result.shift[row], -kInfinity);
      ASSERT_EQ(result.sum[row], 0.f);
      continue;
    }
    const double argument = static_cast<double>(head.head_dim + 4) * 0x1p-24 * 2 * truth.largest_magnitude;
    const double exponential = std::numbers::ln2 * argument + 0x1p-21;
    const double sums = static_cast<double>(head.keys + 3 * tiles) * 0x1p-24;
    double sum = 0;
    for (const double score : truth.scores) sum += std::exp2(score - truth.highest);
    const double shifted = std::exp2(double{result.shift[row]} - truth.highest);
    ASSERT_NEAR(double{result.sum[row]} * shifted, sum, sum * 1.01 * (2 * exponential + sums))
        << "row " << row;
    for (int64_t c = 0; c < head.head_dim; ++c) {
      double value = 0, magnitude = 0;
      for (size_t key = 0; key < truth.scores.size(); ++key) {
        const double product = std::exp2(truth.scores[key] - truth.highest) / sum *
                               double{f32_from_bf16(head.v[static_cast<int64_t>(key) * head.head_dim + c])};
        value += product;
        magnitude += std::fabs(product);
      }
      const double got = double{result.out[row * head.head_dim + c]} / double{result.sum[row]};
      ASSERT_NEAR(got, value, magnitude * 1.01 * (0x1p-8 + 2 * exponential + 2 * sums))
          << "row " << row << " of " << head.rows << ", column " << c;
    }
  }
}

TEST_P(FlashTileTest, IsTheSoftmaxOfTheScoresTimesV) {
  for (const int64_t d : {16, 48, 64, 80, 112, 128, 144}) {
    for (const int64_t rows : {1, 2, 3, 5, 6, 7, 8, 14, 64}) {
      const Head head(rows, 1, d, 150, 150);
      const Result result(head);
      attend(kernels(), head, 0, rows, result);
      expect_near_truth(head, result);
    }
  }
}

TEST_P(FlashTileTest, ARowSeesNoKeyBeyondItsOwn) {
  for (const int64_t group : {1, 2, 7}) {
    for (const int64_t past : {-3, 0, 1, 15, 40, 62, 63, 64, 90}) {
      const Head head(12 * group, group, 64, 101, past);
      const Result result(head);
      attend(kernels(), head, 0, head.rows, result);
      expect_near_truth(head, result);
    }
  }
}

// Rows of K and V as a cache holds them: something else between them, nothing behind the last.
struct StoredRows : GuardedMatrix<uint16_t> {
  StoredRows(const Bf16Values& values, int64_t head_dim, int64_t gap)
      : GuardedMatrix(values.size() / head_dim, head_dim, gap, uint16_t{0x7fc0}) {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(values.data() + r * cols, cols, row(r));
  }
};

// All rows of a head through kernels.flash_rows.
void attend_stored(const Kernels& kernels, const Head& head, const Result& to) {
  const int64_t d = head.head_dim;
  const StoredRows k(head.k, d, 0), v(head.v, d, 6);
  const GuardedArray<uint16_t> q(FlashRows::kMost * d, uint16_t{0x7fc0});
  std::copy_n(head.q.data(), head.rows * d, q.data());
  const GuardedArray<float> shift(FlashRows::kMost, -kInfinity), sum(FlashRows::kMost, 0.f),
      out(FlashRows::kMost * d, 0.f);
  for (int64_t key = 0; key < head.keys; key += kTile) {
    const bool more = key + kTile < head.keys;
    kernels.flash_rows({.tile = {.q = q.data(),
                                 .k = k.row(key),
                                 .v = v.row(key),
                                 .rows = head.rows,
                                 .head_dim = d,
                                 .keys = std::min(kTile, head.keys - key),
                                 .visible = head.past + 1 - key,
                                 .group = head.group,
                                 .scale = head.scale,
                                 .shift = shift.data(),
                                 .sum = sum.data(),
                                 .out = out.data()},
                        .k_stride = k.stride,
                        .v_stride = v.stride,
                        .next_k = more ? k.row(key + kTile) : nullptr,
                        .next_v = more ? v.row(key + kTile) : nullptr});
  }
  std::copy_n(shift.data(), head.rows, to.shift.data());
  std::copy_n(sum.data(), head.rows, to.sum.data());
  std::copy_n(out.data(), head.rows * d, to.out.data());
}

TEST_P(FlashTileTest, StoredRowsHaveTheBitsOfPackedOnes) {
  if (kernels().flash_rows == nullptr) GTEST_SKIP() << "this variant packs every tile";
  for (const int64_t d : {16, 48, 64, 80, 112, 128, 144}) {
    for (const int64_t rows : {1, 2, 3, 4, 5, 7, 8}) {
      for (const int64_t keys : {1, 2, 15, 17, 63, 64, 65, 130, 191}) {
        for (const int64_t group : {rows, int64_t{1}}) {
          const Head head(rows, group, d, keys, keys - rows / group);
          const Result packed(head), stored(head);
          attend(kernels(), head, 0, rows, packed);
          attend_stored(kernels(), head, stored);
          for (int64_t r = 0; r < rows; ++r) {
            ASSERT_EQ(stored.shift[r], packed.shift[r])
                << d << ": row " << r << " of " << rows << ", " << keys;
            ASSERT_EQ(stored.sum[r], packed.sum[r]) << d << ": row " << r << " of " << rows << ", " << keys;
          }
          for (int64_t i = 0; i < rows * d; ++i) ASSERT_EQ(stored.out[i], packed.out[i]) << i;
        }
      }
    }
  }
}

TEST_P(FlashTileTest, BitsOfARowDoNotDependOnTheRowsBesideIt) {
  const Head head(40, 2, 80, 130, 100);
  const Result together(head);
  attend(kernels(), head, 0, head.rows, together);
  for (const int64_t rows : {2, 4, 6, 8, 10, 14, 20}) {
    const Result apart(head);
    for (int64_t row = 0; row < head.rows; row += rows) {
      attend(kernels(), head, row, std::min(rows, head.rows - row), apart);
    }
    for (int64_t i = 0; i < head.rows; ++i) {
      ASSERT_EQ(apart.shift[i], together.shift[i]);
      ASSERT_EQ(apart.sum[i], together.sum[i]);
    }
    for (int64_t i = 0; i < head.rows * head.head_dim; ++i) ASSERT_EQ(apart.out[i], together.out[i]) << rows;
  }
}

TEST_P(FlashTileTest, ALargeCommonScoreCancels) {
  // Scores near 60,000 that differ by a few units: what a key bias of Qwen's size does.
  Head head(6, 1, 64, 64, 64);
  for (int64_t i = 0; i < head.rows; ++i) head.q[i * 64] = bf16_from_f32(256.f);
  for (int64_t i = 0; i < head.keys; ++i) head.k[i * 64] = bf16_from_f32(1800.f);
  const Result result(head);
  attend(kernels(), head, 0, head.rows, result);
  expect_near_truth(head, result);
}

TEST_P(FlashTileTest, NotANumberAndInfinityComeThrough) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    Head head(7, 1, 32, 64, 64);
    head.q[3 * 32 + 5] = bf16_from_f32(bad);
    const Result result(head);
    attend(kernels(), head, 0, head.rows, result);
    for (int64_t row = 0; row < head.rows; ++row) {
      EXPECT_EQ(std::isfinite(result.out[row * 32] / result.sum[row]), row != 3) << row;
    }
  }
}

}  // namespace
}  // namespace fovea
