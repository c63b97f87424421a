// Goal: with ZeRO stage 3 every rank's numbers are those of one process, bit for bit, whatever the others do,
// and a rank stores its part only. Method: this program alone and as 2, 3 and 4 ranks (tests/CMakeLists.txt),
// tied and untied golden checkpoints, whose matrices no number of ranks divides evenly; equality.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "world_testing.h"
#include "zero/zero_weights.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using namespace world_testing;

class Zero : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { model_ = kGoldens / GetParam(); }

  Engine open(bool in_memory) const {
    const Checkpoint checkpoint = Checkpoint::open(model_);
    const WeightGroups groups(checkpoint);
    EngineOptions options;
    options.weight_limit = {least_residency(groups, groups.vision()), least_residency(groups, groups.text())};
    options.weight_source = [&](const Checkpoint& own) {
      return zero_weights(own, world(), {in_memory, {}});
    };
    return Engine::open(model_, options, {});
  }
  Prompt ask(const Engine& engine, int repeats) const {
    std::string text = "Compare <image> with <image>";
    for (int i = 0; i < repeats; ++i) text += ", once more";
    return world_testing::ask(engine, text, model_);
  }
  // The last rank has nothing to do but serve, the others unequal work.
  static int requests() {
    const Communicator& ranks = world();
    return ranks.size() > 1 && ranks.rank() == ranks.size() - 1 ? 0 : 1 + ranks.rank();
  }

  fs::path model_;
};

INSTANTIATE_TEST_SUITE_P(Checkpoints, Zero, testing::Values("two_images", "three_images"),
                         [](const auto& checkpoint) { return std::string(checkpoint.param); });

TEST_P(Zero, SharesAreTheWhole) {
  const Checkpoint checkpoint = Checkpoint::open(model_);
  const WeightGroups groups(checkpoint);
  int64_t matrices = 0;
  for (const TensorInfo& tensor : checkpoint.tensors())
    matrices += tensor.shape.size() >= 2 ? tensor.bytes() : 0;
  for (int64_t ranks = 1; ranks <= 7; ++ranks) {
    int64_t total = 0;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const int64_t share = zero_share(checkpoint, groups, rank, ranks);
      EXPECT_NEAR(static_cast<double>(share), static_cast<double>(matrices) / static_cast<double>(ranks),
                  200);
      total += share;
    }
    EXPECT_EQ(total, matrices);
  }
  EXPECT_EQ(zero_cut(INT64_MAX, 4, 4), INT64_MAX);
}

TEST_P(Zero, EveryNumberIsThatOfOneProcess) {
  const Engine whole = Engine::open(model_, {}, {});
  for (const bool in_memory : {true, false}) {
    const Engine engine = open(in_memory);
    const WeightGroups groups(engine.checkpoint());
    for (int i = 0; i < requests(); ++i) {
      const Prompt prompt = ask(engine, i + 3 * world().rank());
      GenerationOptions options = engine.default_generation();
      options.sampling.greedy = options.ignore_eos = true;
      options.max_new_tokens = 6;
      options.prefill_chunk = 16;
      const Evaluation expected = whole.evaluate(prompt, 16, {}), result = engine.evaluate(prompt, 16, {});
      ASSERT_EQ(result.logits.size(), expected.logits.size());
      EXPECT_TRUE(
          std::equal(result.logits.span().begin(), result.logits.span().end(), expected.logits.data()));
      EXPECT_EQ(engine.generate(prompt, options, {}).token_ids,
                whole.generate(prompt, options, {}).token_ids);
    }
    const StreamState state = engine.stream_state();
    EXPECT_EQ(state.source_bytes,
              in_memory ? zero_share(engine.checkpoint(), groups, world().rank(), world().size()) : 0);
    EXPECT_LE(state.kept_bytes + state.buffer_bytes,
              2 * std::max(groups.largest(groups.text()), groups.largest(groups.vision())));
  }
}

TEST_P(Zero, DifferentCheckpointsAreRefused) {
  if (world().size() == 1) GTEST_SKIP() << "one rank agrees with itself";
  const fs::path other = kGoldens / (world().rank() == 0 ? "two_images" : "three_images");
  const Checkpoint checkpoint = Checkpoint::open(other);
  try {
    zero_weights(checkpoint, world(), {});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_argument);
    EXPECT_NE(error.message().find("ranks 0 and 1"), std::string::npos) << error.message();
  }
}

}  // namespace
}  // namespace fovea
