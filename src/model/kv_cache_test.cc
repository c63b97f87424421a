// Goal: what the cache gives back is what was stored, within half a step of its type, and in int8 a function
// of each token alone. Bound: a row of largest magnitude m has steps of m / 127; its scale and each product
// with it are rounded once in f32, which moves a value by at most 2^-22 m.
#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "attention/rows.h"
#include "base/splitmix64.h"

namespace fovea {
namespace {

constexpr int64_t kTokens = 37, kHeads = 3, kHeadDim = 20, kWidth = kHeads * kHeadDim;

TextConfig config() {
  TextConfig config;
  config.num_hidden_layers = 1;
  config.num_key_value_heads = kHeads;
  config.head_dim = kHeadDim;
  return config;
}

KvCache cache_of(DType keys, DType values) {
  TowerPrecision layer;
  layer.k_cache = keys;
  layer.v_cache = values;
  return KvCache(config(), kTokens, {layer});
}

// Rows of very different sizes, one of zeros.
std::vector<float> rows(uint64_t seed) {
  std::vector<float> result;
  SplitMix64 random(seed);
  for (int64_t i = 0; i < kTokens * kWidth; ++i) {
    const int64_t row = i / kHeadDim;
    const double uniform = static_cast<double>(random.bits() >> 11) * 0x1p-53;
    result.push_back(row == 5 ? 0.f : static_cast<float>((uniform - 0.5) * std::pow(10., row % 7 - 3)));
  }
  return result;
}

TEST(KvCache, EightBitsAreWithinHalfAStepOfEachRow) {
  KvCache cache = cache_of(DType::i8, DType::i8);
  const std::vector<float> k = rows(1), v = rows(2);
  cache.store(0, 0, k.data(), v.data(), kWidth, kTokens);
  for (const auto& [view, given] :
       {std::pair(cache.keys(0, kTokens), &k), std::pair(cache.values(0, kTokens), &v)}) {
    for (int64_t row = 0; row < kTokens * kHeads; ++row) {
      double largest = 0;
      for (int64_t c = 0; c < kHeadDim; ++c) {
        largest = std::max(largest, std::abs(double{(*given)[static_cast<size_t>(row * kHeadDim + c)]}));
      }
      for (int64_t c = 0; c < kHeadDim; ++c) {
        EXPECT_NEAR(value_at(view, row / kHeads, row % kHeads, c),
                    double{(*given)[static_cast<size_t>(row * kHeadDim + c)]},
                    largest * (0.5 / 127 + 0x1p-22))
            << row << " " << c;
      }
    }
  }
}

TEST(KvCache, EightBitsOfATokenDependOnThatTokenAlone) {
  KvCache whole = cache_of(DType::i8, DType::i8), single = cache_of(DType::i8, DType::i8);
  const std::vector<float> k = rows(3), v = rows(4);
  whole.store(0, 0, k.data(), v.data(), kWidth, kTokens);
  for (int64_t t = 0; t < kTokens; ++t) {
    single.store(0, t, v.data(), k.data(), kWidth, 1);  // a rejected guess
    single.store(0, t, k.data() + t * kWidth, v.data() + t * kWidth, kWidth, 1);
    single.commit(1);
  }
  for (int64_t i = 0; i < kTokens * kWidth; ++i) {
    const int64_t token = i / kWidth, head = i % kWidth / kHeadDim, column = i % kHeadDim;
    ASSERT_EQ(value_at(whole.keys(0, kTokens), token, head, column),
              value_at(single.keys(0, kTokens), token, head, column));
    ASSERT_EQ(value_at(whole.values(0, kTokens), token, head, column),
              value_at(single.values(0, kTokens), token, head, column));
  }
}

TEST(KvCache, ValuesThatAreNotFiniteStayVisible) {
  KvCache cache = cache_of(DType::i8, DType::bf16);
  std::vector<float> k = rows(5);
  k[7] = INFINITY;
  cache.store(0, 0, k.data(), k.data(), kWidth, kTokens);
  EXPECT_FALSE(std::isfinite(value_at(cache.keys(0, kTokens), 0, 0, 7)));
}

TEST(KvCache, TakesTheBytesThatItsTypesSay) {
  EXPECT_EQ(KvCache::bytes_per_token(config(), DType::f32), kWidth * 4);
  EXPECT_EQ(KvCache::bytes_per_token(config(), DType::bf16), kWidth * 2);
  EXPECT_EQ(KvCache::bytes_per_token(config(), DType::i8), kWidth + kHeads * 4);
  EXPECT_EQ(cache_of(DType::i8, DType::f16).bytes(), kTokens * (kWidth + kHeads * 4 + kWidth * 2));
}

}  // namespace
}  // namespace fovea
