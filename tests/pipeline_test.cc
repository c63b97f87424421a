// Goal: a model whose parts lie on several ranks computes what one process computes, bit for bit, for any
// map. Method: this program alone and as 2, 3 and 4 ranks (tests/CMakeLists.txt); golden checkpoints with
// images, all attentions, maps even, uneven, backwards and with gaps; equality of logits and tokens.
#include <gtest/gtest.h>

#include <filesystem>

#include "world_testing.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

using namespace world_testing;

const std::string kQuestion = "Compare <image> with <image>, and then once more with care";

GenerationOptions generation(const Engine& engine, bool use_kv_cache) {
  GenerationOptions options = engine.default_generation();
  options.sampling.greedy = options.ignore_eos = true;
  options.max_new_tokens = 6;
  options.prefill_chunk = 7;
  options.use_kv_cache = use_kv_cache;
  return options;
}

// Maps in which each of `ranks` has something to do.
std::vector<DeviceMap> maps(const Checkpoint& checkpoint, int ranks) {
  const int64_t layers = checkpoint.config().text.num_hidden_layers;
  std::vector<DeviceMap> list = {DeviceMap::balanced(WeightGroups(checkpoint), layers, ranks)};
  const int last = ranks - 1;
  DeviceMap backwards{last, 0, {}}, turns{0, last, {}}, uneven{0, last, {}};
  for (int64_t i = 0; i < layers; ++i) {
    backwards.layers.push_back(static_cast<int>(last - i * ranks / layers));
    turns.layers.push_back(static_cast<int>((i + 1) % ranks));
    uneven.layers.push_back(static_cast<int>(std::max<int64_t>(0, i - layers + ranks)));
  }
  for (const DeviceMap& map : {backwards, turns, uneven}) {
    try {
      map.require_ranks(ranks);
      list.push_back(map);
    } catch (const Error&) {  // too few layers for the pattern
    }
  }
  return list;
}

class Split : public testing::TestWithParam<AttentionKind> {};

INSTANTIATE_TEST_SUITE_P(Attentions, Split,
                         testing::Values(AttentionKind::eager, AttentionKind::sdpa,
                                         AttentionKind::flash_attention_2),
                         [](const auto& kind) { return std::string(name_of(kind.param)); });

void compare(const fs::path& model, const EngineOptions& plain, const DeviceMap& map) {
  EngineOptions options = plain;
  options.split = [&](const Checkpoint&) { return SplitModel{map, &world()}; };
  const Engine engine = Engine::open(model, options, {});
  if (world().rank() != 0) return engine.serve();
  const Engine whole = Engine::open(model, plain, {});
  const Prompt prompt = ask(engine, kQuestion);
  const Evaluation expected = whole.evaluate(prompt, 7, {}), result = engine.evaluate(prompt, 7, {});
  ASSERT_EQ(result.logits.size(), expected.logits.size());
  EXPECT_TRUE(std::equal(result.logits.span().begin(), result.logits.span().end(), expected.logits.data()));
  ASSERT_EQ(result.vision_embeddings.size(), expected.vision_embeddings.size());
  EXPECT_TRUE(std::equal(result.vision_embeddings.span().begin(), result.vision_embeddings.span().end(),
                         expected.vision_embeddings.data()));
  for (const bool cached : {true, false}) {
    const Answer answer = engine.generate(prompt, generation(engine, cached), {});
    EXPECT_EQ(answer.token_ids, whole.generate(prompt, generation(whole, cached), {}).token_ids);
    EXPECT_EQ(answer.speculation.steps, 0);
  }
  engine.release_ranks();
}

TEST_P(Split, EveryNumberIsThatOfOneProcess) {
  EngineOptions plain;
  plain.attention = plain.vision_attention = GetParam();
  for (const fs::path& model : {kDemo, kGoldens / "two_images", kGoldens / "three_images"}) {
    const int64_t parts = 2 + Checkpoint::open(model).config().text.num_hidden_layers;
    if (parts < world().size()) continue;
    const std::vector<DeviceMap> all = maps(Checkpoint::open(model), world().size());
    EXPECT_GE(all.size(), model == kDemo ? 3u : 1u);
    for (const DeviceMap& map : all) {
      SCOPED_TRACE(map.text());
      compare(model, plain, map);
    }
  }
}

// Keys without their bias, whose rotations every rank keeps, in a dtype the weights are converted to.
TEST(SplitModels, ConvertedWeightsAndSplitBias) {
  const fs::path model = kDemo;
  EngineOptions plain;
  plain.dtype = DType::f16;
  plain.policy = PrecisionPolicy::parse_text("text.bias_split=on");
  compare(model, plain, maps(Checkpoint::open(model), world().size()).back());
}

// More requests than fit side by side, of different lengths, on maps whose last layers and head are here and
// there.
TEST(SplitModels, RequestsSideBySideGetTheTokensOfOneProcess) {
  constexpr int64_t kRequests = 7;
  for (const DeviceMap& map : maps(Checkpoint::open(kDemo), world().size())) {
    SCOPED_TRACE(map.text());
    EngineOptions options;
    options.split = [&](const Checkpoint&) { return SplitModel{map, &world()}; };
    const Engine engine = Engine::open(kDemo, options, {});
    if (world().rank() != 0) {
      engine.serve();
      continue;
    }
    const Engine whole = Engine::open(kDemo, {}, {});
    EXPECT_GE(engine.requests_at_once(), 2);
    std::vector<Answer> answers(kRequests);
    int64_t next = 0;
    const auto prompt_of = [&](int64_t i) { return ask(engine, kQuestion + std::string(11 * i, 'x')); };
    engine.side_by_side(engine.requests_at_once(), [&](int64_t) {
      while (next < kRequests) {
        const int64_t i = next++;
        answers[static_cast<size_t>(i)] = engine.generate(prompt_of(i), generation(engine, i % 3 > 0), {});
      }
    });
    for (int64_t i = 0; i < kRequests; ++i) {
      EXPECT_EQ(answers[static_cast<size_t>(i)].token_ids,
                whole.generate(prompt_of(i), generation(whole, true), {}).token_ids)
          << i;
    }
    EXPECT_THROW(engine.side_by_side(3,
                                     [](int64_t i) {
                                       if (i == 1) throw Error(ErrorKind::io, "one fails", "nothing");
                                     }),
                 Error);
    engine.release_ranks();
  }
}

TEST(SplitModels, DifferentCheckpointsAreRefused) {
  if (world().size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  const fs::path model = kDemo;
  EngineOptions options;
  options.attention = world().rank() == 0 ? AttentionKind::eager : AttentionKind::sdpa;
  options.split = [](const Checkpoint& checkpoint) {
    return SplitModel{maps(checkpoint, world().size()).front(), &world()};
  };
  try {
    Engine::open(model, options, {});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(error.message().find("ranks 0 and 1"), std::string::npos) << error.message();
  }
}

TEST(SplitModels, SpeculationIsRefusedByName) {
  if (world().size() > 1) GTEST_SKIP() << "as with one rank";
  EngineOptions options;
  options.split = [](const Checkpoint& checkpoint) {
    return SplitModel{maps(checkpoint, 1).front(), &world()};
  };
  const fs::path model = kDemo;
  const Engine engine = Engine::open(model, options, {});
  GenerationOptions wanted = generation(engine, true);
  wanted.prompt_lookup_num_tokens = 3;
  EXPECT_THROW(engine.generate(ask(engine, kQuestion), wanted, {}), Error);
}

}  // namespace
}  // namespace fovea
