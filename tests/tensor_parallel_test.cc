// Goal: ranks that split heads and MLP give the tokens of one process, the same bits on every rank, in every
// run and for every chunk size. Method: this program alone and as 2, 3 and 4 ranks (tests/CMakeLists.txt), so
// that heads do not divide evenly and a kv head is shared; greedy tokens in fp32, equality of bits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/error.h"
#include "model/tensor_shard.h"
#include "runtime/pipeline.h"
#include "world_testing.h"

namespace fovea {
namespace {

using namespace world_testing;

const std::string kQuestion = "Compare <image> with <image>, then say what you see";

TensorShard shard() {
  return {world().rank(), world().size(), [](std::span<float> values) { world().sum_in_rank_order(values); }};
}

EngineOptions options(const std::string& policy, const TensorShard& shard = {}) {
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text(policy);
  options.tensor_parallel = shard;
  return options;
}

std::vector<float> logits(const Engine& engine, int64_t chunk) {
  const Evaluation result = engine.evaluate(ask(engine, kQuestion), chunk, {});
  return {result.logits.data(), result.logits.data() + result.logits.size()};
}

std::vector<int32_t> tokens(const Engine& engine) {
  GenerationOptions generation = engine.default_generation();
  generation.max_new_tokens = 24;
  generation.ignore_eos = true;
  generation.sampling = {};
  return engine.generate(ask(engine, kQuestion), generation, {}).token_ids;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

const char* const kPolicies[] = {"dtype=fp32", "dtype=fp32,text.attention=sdpa",
                                 "dtype=fp32,text.attention=eager",
                                 "dtype=fp32,text.bias_split=on,text.k_cache=int8"};

TEST(TensorParallel, PartsAreTheWholeForEveryNumberOfRanks) {
  TextConfig config;
  for (const auto& [heads, kv] : {std::pair<int64_t, int64_t>{16, 2}, {28, 4}, {12, 12}, {5, 1}}) {
    config.num_attention_heads = heads;
    config.num_key_value_heads = kv;
    config.intermediate_size = 1000;
    for (int64_t size = 1; size <= heads; ++size) {
      std::vector<int64_t> reads(static_cast<size_t>(heads), -1);
      int64_t inner = 0;
      for (int64_t rank = 0; rank < size; ++rank) {
        const TensorPart part = tensor_part(config, {rank, size, {}});
        EXPECT_EQ(part.first_inner, inner);
        inner += part.inner;
        for (const HeadPiece& piece : part.pieces) {
          const int64_t own_kv = part.pieces.size() == 1 ? part.heads_kv : 1;
          ASSERT_EQ(piece.count % own_kv, 0);
          for (int64_t q = 0; q < piece.count; ++q) {
            const auto head = static_cast<size_t>(part.first_q + piece.first_q + q);
            ASSERT_EQ(reads.at(head), -1);
            reads[head] = part.first_kv + piece.kv + q / (piece.count / own_kv);
          }
        }
      }
      EXPECT_EQ(inner, config.intermediate_size);
      for (int64_t head = 0; head < heads; ++head) {
        EXPECT_EQ(reads[static_cast<size_t>(head)], head / (heads / kv)) << size;
      }
    }
    EXPECT_THROW(static_cast<void>(tensor_part(config, {0, heads + 1, {}})), Error);
  }
}

TEST(TensorParallel, TokensAreThoseOfOneProcess) {
  for (const char* policy : kPolicies) {
    const Engine whole = Engine::open(kDemo, options(policy), {}),
                 part = Engine::open(kDemo, options(policy, shard()), {});
    const std::vector<int32_t> expected = tokens(whole);
    EXPECT_GE(expected.size(), 24u);
    EXPECT_EQ(tokens(part), expected) << policy;
  }
}

TEST(TensorParallel, BitsAreThoseOfEveryRankRunAndChunk) {
  for (const char* policy : {"dtype=bf16", "dtype=fp32"}) {
    const Engine part = Engine::open(kDemo, options(policy, shard()), {});
    const std::vector<float> first = logits(part, 0);
    for (const float value : first) ASSERT_TRUE(std::isfinite(value));
    EXPECT_TRUE(same_bits(logits(part, 0), first)) << policy;
    EXPECT_TRUE(same_bits(logits(part, 7), first)) << policy;
    std::vector<float> of_first_rank = first;
    world().broadcast(0, std::as_writable_bytes(std::span(of_first_rank)));
    EXPECT_TRUE(same_bits(of_first_rank, first)) << policy;
  }
}

TEST(TensorParallel, RanksThatDifferAreRefused) {
  EngineOptions own = options("dtype=fp32", shard());
  EXPECT_NO_THROW(require_same(world(), Engine::open(kDemo, own, {}).identity()));
  if (world().size() == 1) return;  // one rank agrees with itself
  if (world().rank() > 0) own = options("dtype=bf16", shard());
  try {
    require_same(world(), Engine::open(kDemo, own, {}).identity());
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("ranks 0 and 1"), std::string::npos) << error.message();
  }
}

TEST(TensorParallel, RefusesWhatItCannotSplit) {
  const TensorShard two{0, 2, [](std::span<float>) {}};
  EXPECT_THROW(static_cast<void>(Engine::open(kDemo, options("preset=balanced", two), {})), Error);
  EngineOptions guarded = options("dtype=bf16", two);
  guarded.guard.mode = GuardMode::warn;
  EXPECT_THROW(static_cast<void>(Engine::open(kDemo, guarded, {})), Error);
}

}  // namespace
}  // namespace fovea
