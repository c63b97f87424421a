// Goal: what is found by blocks is what a look at every id finds. Method: rows of all lengths around a block,
// with ties and -inf, against plain loops.
#include "runtime/logit_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/splitmix64.h"

namespace fovea {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

std::vector<float> row_of(size_t ids, SplitMix64& random) {
  std::vector<float> row(ids);
  for (float& logit : row)
    logit = random.bits() % 9 == 0 ? kNever : static_cast<float>(random.bits() % 100) - 50;
  return row;
}

TEST(LogitBlocks, FindsWhatAPlainLoopFinds) {
  SplitMix64 random(1);
  LogitBlocks blocks;
  for (const size_t ids : {1, 2, 63, 64, 65, 127, 128, 129, 1000, 5000}) {
    const std::vector<float> row = row_of(ids, random);
    blocks.read(row);
    const auto best = std::max_element(row.begin(), row.end());
    EXPECT_EQ(blocks.largest().id, best - row.begin());
    EXPECT_EQ(blocks.largest().logit, *best);
    for (const float least : {-50.f, 0.f, 49.f, *best}) {
      std::vector<RankedLogit> found;
      blocks.collect(least, blocks.ids(), found);
      std::vector<int32_t> expected, actual;
      for (size_t i = 0; i < ids; ++i) {
        if (row[i] >= least) expected.push_back(static_cast<int32_t>(i));
      }
      for (const RankedLogit& one : found) actual.push_back(one.id);
      EXPECT_EQ(actual, expected) << ids << " ids from " << least;
    }
    for (const int64_t count : {1, 2, 20, 70, 5000}) {
      const float reached = blocks.reached_by(count);
      const auto reaching = std::count_if(row.begin(), row.end(), [&](float x) { return x >= reached; });
      EXPECT_GE(reaching, std::min<int64_t>(count, blocks.ids()));
    }
  }
}

TEST(LogitBlocks, HistoryChangesWhatIsReadAndNotTheRow) {
  std::vector<float> row(130, -1.f);
  row[0] = 6;
  row[64] = 8;
  row[129] = 5;
  const std::vector<float> before = row;
  const std::vector<uint64_t> penalised = {1, 3, 2}, forbidden = {0, 1, 0};  // 0, 64, 65, 129; 64
  LogitBlocks blocks;
  blocks.read(row, {penalised, 2, forbidden});
  std::vector<RankedLogit> all;
  blocks.collect(kNever, blocks.ids(), all);
  ASSERT_EQ(all.size(), row.size());
  std::vector<float> expected(130, -1.f);
  expected[0] = 3;
  expected[64] = kNever;
  expected[65] = -2;
  expected[129] = 2.5;
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].logit, expected[i]) << i;
  EXPECT_EQ(row, before);
  EXPECT_EQ(blocks.largest().id, 0);
}

TEST(LogitBlocks, ExponentialsAreWithinTheirBound) {
  SplitMix64 random(1);
  std::array<float, LogitBlocks::kIds> logits;
  std::array<double, LogitBlocks::kIds> exponentials;
  for (const double temperature : {0.01, 0.3, 1.0, 5.0}) {
    for (int round = 0; round < 500; ++round) {
      for (float& logit : logits) logit = 20 - static_cast<float>(random.bits() >> 40) * 0x1p-18f;  // to -44
      logits[0] = 20;
      logits[1] = kNever;
      exponentials_of(logits.data(), 20, temperature, exponentials);
      EXPECT_EQ(exponentials[0], 1);
      for (size_t i = 0; i < logits.size(); ++i) {
        const long double y = (static_cast<long double>(logits[i]) - 20) / temperature;
        if (y < -700) {
          EXPECT_LT(exponentials[i], 1e-303);
        } else {
          EXPECT_LT(std::fabs(exponentials[i] / std::exp(y) - 1), 0x1p-40) << y;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fovea
