// Goal: what the cache gives back is what was stored, within half a step of its type, in int8 a function of
// each token alone, and from disk the same bits. Bound: a row of largest magnitude m has steps of m / 127;
// its scale and each product with it are rounded once in f32, which moves a value by at most 2^-22 m.
#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "attention/rows.h"
#include "base/scratch_file_testing.h"
#include "base/splitmix64.h"

namespace fovea {
namespace {

constexpr int64_t kTokens = 137;  // two pages and a part of a third
constexpr int64_t kHeads = 3, kHeadDim = 20, kWidth = kHeads * kHeadDim;

TextConfig config(int64_t layers = 1) {
  TextConfig config;
  config.num_hidden_layers = layers;
  config.num_key_value_heads = kHeads;
  config.head_dim = kHeadDim;
  return config;
}

TowerPrecision stored_as(DType keys, DType values) {
  TowerPrecision layer;
  layer.k_cache = keys;
  layer.v_cache = values;
  return layer;
}

KvCache cache_of(DType keys, DType values) {
  KvCache cache(config(), kTokens, {stored_as(keys, values)});
  static_cast<void>(cache.use(0, 0, kTokens));
  return cache;
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
  cache.store(kernels(), 0, 0, k.data(), v.data(), kWidth, kTokens);
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
  whole.store(kernels(), 0, 0, k.data(), v.data(), kWidth, kTokens);
  for (int64_t t = 0; t < kTokens; ++t) {
    single.store(kernels(), 0, t, v.data(), k.data(), kWidth, 1);  // a rejected guess
    single.store(kernels(), 0, t, k.data() + t * kWidth, v.data() + t * kWidth, kWidth, 1);
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
  cache.store(kernels(), 0, 0, k.data(), k.data(), kWidth, kTokens);
  EXPECT_FALSE(std::isfinite(value_at(cache.keys(0, kTokens), 0, 0, 7)));
}

TEST(KvCache, TakesTheBytesThatItsTypesSay) {
  EXPECT_EQ(KvCache::bytes_per_token(config(), DType::f32), kWidth * 4);
  EXPECT_EQ(KvCache::bytes_per_token(config(), DType::bf16), kWidth * 2);
  EXPECT_EQ(KvCache::bytes_per_token(config(), DType::i8), kWidth + kHeads * 4);
  // Pages of 64 tokens: 64 * 60 bytes of keys, 64 * 120 of values, 64 * 12 of scales, in pages of 4 KiB.
  EXPECT_EQ(cache_of(DType::i8, DType::f16).state().bytes, 3 * 12288);
}

// Tokens in several calls, as prompts and answers come, the last two of them twice (a rejected guess).
void fill(KvCache& cache, int64_t layers, const std::vector<float>& k, const std::vector<float>& v) {
  const auto step = [&](int64_t count) {
    for (int64_t layer = 0; layer < layers; ++layer) {
      const int64_t first = cache.tokens(), from = (first + layer) % (kTokens - count);
      const KvLease pages = cache.use(layer, first, first + count);
      cache.store(kernels(), layer, first, k.data() + from * kWidth, v.data() + from * kWidth, kWidth, count);
    }
    cache.commit(count);
  };
  step(70);
  step(60);
  step(3);
  cache.truncate(cache.tokens() - 2);
  for (int i = 0; i < 4; ++i) step(1);
}

TEST(KvCache, LayersOnDiskHoldTheBitsOfLayersInMemory) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  const std::vector<float> k = rows(7), v = rows(8);
  for (const int64_t layers : {1, 2, 3, 4, 7}) {
    std::vector<TowerPrecision> types;
    for (int64_t i = 0; i < layers; ++i) {
      types.push_back(stored_as(i % 2 == 0 ? DType::i8 : DType::f32, i % 3 == 0 ? DType::bf16 : DType::f16));
    }
    KvCache memory(config(layers), kTokens, types);
    const int64_t all = memory.state().bytes;
    for (const int64_t limit : {int64_t{0}, all * 3 / 4}) {
      KvCache disk(config(layers), kTokens, types, {}, KvOffload{".", limit});
      const KvState state = KvCache::state_for(config(layers), kTokens, types, limit);
      EXPECT_EQ(disk.state().bytes, state.bytes);
      EXPECT_EQ(disk.state().disk_bytes, state.disk_bytes);
      EXPECT_GT(state.layers_on_disk, 0);
      memory.truncate(0);
      fill(memory, layers, k, v);
      fill(disk, layers, k, v);
      const int64_t tokens = memory.tokens();
      for (int64_t layer = 0; layer < layers; ++layer) {
        const KvLease kept = memory.use(layer, tokens, tokens), leased = disk.use(layer, tokens, tokens);
        for (int64_t i = 0; i < tokens * kWidth; ++i) {
          const int64_t token = i / kWidth, head = i % kWidth / kHeadDim, column = i % kHeadDim;
          ASSERT_EQ(value_at(memory.keys(layer, tokens), token, head, column),
                    value_at(disk.keys(layer, tokens), token, head, column))
              << layers << " layers, layer " << layer << " token " << token;
          ASSERT_EQ(value_at(memory.values(layer, tokens), token, head, column),
                    value_at(disk.values(layer, tokens), token, head, column));
        }
      }
      EXPECT_EQ(disk.state().read_bytes > 0, state.layers_on_disk > 2);
    }
  }
}

TEST(KvDisk, AsFewLayersAsCanBeGoToDisk) {
  const std::vector<int64_t> sizes(8, 100);
  EXPECT_EQ(layers_on_disk(sizes, 800), std::vector<bool>(8, false));
  // Two of eight with two buffers are as large as all eight: three are needed for 700.
  const std::vector<bool> three = layers_on_disk(sizes, 799);
  EXPECT_EQ(std::count(three.begin(), three.end(), true), 3);
  EXPECT_EQ(bytes_in_memory(sizes, three), 700);
  EXPECT_EQ(layers_on_disk(sizes, 0), std::vector<bool>(8, true));
  EXPECT_EQ(bytes_in_memory(sizes, std::vector<bool>(8, true)), 200);
}

TEST(KvDisk, AFolderThatCannotBeUsedIsNamed) {
  try {
    const KvDisk disk("no/such/folder", {4096});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("no/such/folder"), std::string::npos);
  }
  if (!std::filesystem::exists("/dev/shm")) return;
  try {
    const KvDisk disk("/dev/shm", {4096});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported) << error.what();
  }
}

TEST(KvDisk, WaitingCanBeEnded) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  KvDisk disk(".", std::vector<int64_t>(3, int64_t{64} << 20));
  struct Stop {};
  static_cast<void>(disk.acquire(0, {}));
  disk.release(0, int64_t{64} << 20);
  // Reached while 64 MiB are written, or not at all: either way the next acquire works.
  try {
    static_cast<void>(disk.acquire(0, [] { throw Stop{}; }));
    disk.release(0, 0);
  } catch (const Stop&) {
  }
  EXPECT_NE(disk.acquire(1, {}), nullptr);
  disk.release(0, 0);
}

}  // namespace
}  // namespace fovea
