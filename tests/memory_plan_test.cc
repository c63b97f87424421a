// Goal: a plan's parts are the sizes of what is allocated, changes offered are enough and in order, and what
// does not fit is refused with the same words. Method: exact products of the demo model's shape; every change
// planned again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "media/geometry.h"
#include "model/kv_cache.h"
#include "plan/plan_text.h"

namespace fovea {
namespace {

const Checkpoint& demo() {
  static const Checkpoint checkpoint = Checkpoint::open(std::string(FOVEA_SOURCE_DIR) + "/models/fovea-demo");
  return checkpoint;
}

PlanSetup setup_of(int64_t pictures, int64_t side, AttentionKind kind, std::optional<DType> dtype = {}) {
  const ModelConfig& config = demo().config();
  PlanSetup setup;
  setup.target = {kind, kind, dtype, config.dtype, config.text.num_hidden_layers, config.vision.depth};
  setup.request.text_tokens = 200;
  setup.request.answer_tokens = 50;
  setup.request.vision_budget_bytes = int64_t{256} << 20;
  for (int64_t i = 0; i < pictures; ++i) {
    Picture picture;
    picture.source = "page";
    picture.original_height = picture.original_width = side;
    setup.request.pictures.push_back({with_geometry(picture, {}), {}});
  }
  return setup;
}

Plan planned(const PlanSetup& setup) {
  return make_plan(demo(), setup.policy.resolve(setup.target).precision, setup.request);
}

TEST(Plan, PartsAreTheSizesOfBuffers) {
  const Plan plan = planned(setup_of(3, 560, AttentionKind::flash_attention_2));
  int64_t stored = 0;
  for (const TensorInfo& tensor : demo().tensors()) stored += tensor.bytes();
  EXPECT_EQ(plan.weights, stored);
  EXPECT_EQ(plan.converted_weights, 0);  // stored and computed in bf16
  EXPECT_EQ(plan.image_tokens, 3 * 400);
  EXPECT_EQ(plan.prompt_tokens, 1400);
  EXPECT_EQ(plan.context, 1450);
  EXPECT_EQ(plan.patches, 3 * 1600 * 3 * 2 * 14 * 14 * 4);  // f32
  EXPECT_EQ(plan.embeddings, 1200 * 256 * 4);
  // Whole pages of 64 tokens; layers, K and V, heads, head_dim, bf16.
  EXPECT_EQ(plan.kv_cache, 23 * 64 * 3 * 2 * 2 * 64 * 2);
  EXPECT_EQ(plan.logits, 1024 * 4);
  EXPECT_EQ(planned(setup_of(3, 560, AttentionKind::sdpa, DType::f32)).kv_cache, 2 * plan.kv_cache);
  EXPECT_GT(planned(setup_of(0, 560, AttentionKind::sdpa, DType::f16)).converted_weights, stored * 9 / 10);
}

TEST(Plan, FlashScratchDoesNotGrowWithTheContext) {
  PlanSetup setup = setup_of(0, 0, AttentionKind::flash_attention_2);
  setup.request.text_tokens = 2000;
  const int64_t shorter = planned(setup).attention;
  setup.request.text_tokens = 32000;
  EXPECT_GT(shorter, 0);
  EXPECT_EQ(planned(setup).attention, shorter);
  setup.target.text_attention = AttentionKind::eager;
  const int64_t eager = planned(setup).attention;
  setup.request.text_tokens = 16000;
  EXPECT_GT(eager, planned(setup).attention * 19 / 10);
}

TEST(Plan, EveryChangeOfferedIsEnough) {
  const auto need = [](const Plan& plan) { return plan.peak(); };
  for (const AttentionKind kind : {AttentionKind::eager, AttentionKind::flash_attention_2}) {
    PlanSetup setup = setup_of(6, 900, kind, DType::f16);
    setup.request.prefill_chunk = 0;
    const Plan before = planned(setup);
    for (const int64_t percent : {98, 80, 60}) {
      const int64_t limit = before.peak() * percent / 100;
      const auto remedies = find_remedies(demo(), setup, limit, need);
      ASSERT_FALSE(remedies.empty());
      for (const Remedy& remedy : remedies) EXPECT_LE(remedy.plan.peak(), limit) << remedy.change;
      EXPECT_EQ(planned(setup).peak(), before.peak());  // left as it was
    }
  }
}

TEST(Plan, ImagesLoseNoMoreTokensThanNeeded) {
  PlanSetup setup = setup_of(6, 900, AttentionKind::flash_attention_2);
  const int64_t limit = planned(setup).peak() * 7 / 10;
  const auto need = [](const Plan& plan) { return plan.peak(); };
  for (const Remedy& remedy : find_remedies(demo(), setup, limit, need)) {
    if (!remedy.change.starts_with("--max-total-image-tokens ")) continue;
    const int64_t tokens = remedy.plan.image_tokens;
    EXPECT_EQ(remedy.change, fmt::format("--max-total-image-tokens {}", tokens));
    // One level more, and it would not fit: pages are square, so their next size is one token wider.
    const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(tokens / 6)));
    EXPECT_EQ(tokens, 6 * side * side);
    for (PlanPicture& picture : setup.request.pictures) {
      picture.options.token_level = (side + 1) * (side + 1);
      picture.measured = with_geometry(picture.measured, picture.options);
    }
    EXPECT_GT(planned(setup).peak(), limit);
    return;
  }
  FAIL() << "no change of image tokens was offered";
}

// Its plan with the least memory for weights.
Plan least_streamed(PlanSetup& setup) {
  setup.request.ram = 1;
  const Plan plan = planned(setup);
  setup.request.ram.reset();
  return plan;
}

TEST(Plan, WeightsAreStreamedWithinWhatIsLeft) {
  PlanSetup setup = setup_of(2, 560, AttentionKind::flash_attention_2);
  const Plan mapped = planned(setup), least = least_streamed(setup);
  const WeightGroups groups(demo());
  EXPECT_FALSE(mapped.streamed);
  EXPECT_TRUE(least.streamed);
  EXPECT_EQ(least.weights, 0);
  EXPECT_EQ(least.vision_weights, least_residency(groups, groups.vision()));
  EXPECT_EQ(least.text_weights, least_residency(groups, groups.text()));
  EXPECT_EQ(least.fetched_per_token, groups.total(groups.text()));
  int64_t read_before = least.fetched_per_token;
  for (int64_t ram = least.peak(); ram < mapped.peak(); ram += 300'000) {
    setup.request.ram = ram;
    const Plan plan = planned(setup);
    EXPECT_TRUE(plan.streamed);
    EXPECT_LE(plan.peak(), ram);
    EXPECT_LE(plan.fetched_per_token, read_before);
    read_before = plan.fetched_per_token;
  }
  setup.request.ram = mapped.peak();
  EXPECT_FALSE(planned(setup).streamed);
}

TEST(Plan, StreamingIsOfferedWhereConvertedCopiesDoNotFit) {
  PlanSetup setup = setup_of(0, 0, AttentionKind::flash_attention_2, DType::f16);
  const int64_t limit = planned(setup).unreclaimable() - 1;
  const auto remedies =
      find_remedies(demo(), setup, limit, [](const Plan& plan) { return plan.unreclaimable(); });
  const auto offered = std::find_if(remedies.begin(), remedies.end(),
                                    [](const Remedy& remedy) { return remedy.change.starts_with("--ram "); });
  ASSERT_NE(offered, remedies.end());
  EXPECT_TRUE(offered->plan.streamed);
  EXPECT_LE(offered->plan.peak(), limit);
  EXPECT_FALSE(setup.request.ram);
}

TEST(Plan, RanksHoldTheirSharesAndTwoBuffers) {
  PlanSetup setup = setup_of(1, 560, AttentionKind::flash_attention_2);
  const Plan alone = planned(setup);
  const WeightGroups groups(demo());
  int64_t before = alone.peak();
  for (const int64_t ranks : {1, 2, 3, 4, 8}) {
    setup.request.ranks = ranks;
    const Plan plan = planned(setup);
    EXPECT_EQ(plan.ranks, ranks);
    EXPECT_EQ(plan.weights, 0);
    EXPECT_EQ(plan.text_weights,
              least_residency(groups, groups.text()));  // two buffers and what always stays
    int64_t together = 0;
    for (int64_t rank = 0; rank < ranks; ++rank) together += zero_share(demo(), groups, rank, ranks);
    EXPECT_LE(together, alone.weights);  // norms and biases are in no share
    EXPECT_GT(together, alone.weights * 98 / 100);
    EXPECT_EQ(plan.weight_share, zero_share(demo(), groups, ranks - 1, ranks));
    if (ranks > 1) {
      EXPECT_LT(plan.peak() - plan.process, before);  // of several, MPI is in the process
    }
    before = plan.peak() - plan.process;
  }
}

TEST(Plan, TheFewestRanksAreOffered) {
  PlanSetup setup = setup_of(0, 0, AttentionKind::flash_attention_2);
  const auto need = [](const Plan& plan) { return plan.peak(); };
  setup.request.ranks = 4;
  const int64_t limit = planned(setup).peak();
  setup.request.ranks = 3;
  ASSERT_GT(planned(setup).peak(), limit);
  for (const int64_t given : {0, 2}) {
    setup.request.ranks = given;
    const auto found = find_ranks(demo(), setup, limit, need);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->plan.ranks, 4);
    EXPECT_EQ(found->change, "mpirun -n 4 on as many hosts, with --zero-stage 3");
    EXPECT_EQ(setup.request.ranks, given);
    const auto all = find_remedies(demo(), setup, limit, need);
    EXPECT_TRUE(std::any_of(all.begin(), all.end(), [](const Remedy& r) { return r.plan.ranks == 4; }));
  }
  setup.request.ranks = 0;
  EXPECT_FALSE(find_ranks(demo(), setup, 1'000'000, need));  // buffers alone are more
  setup.policy = PrecisionPolicy::of_preset("balanced");
  EXPECT_FALSE(find_ranks(demo(), setup, limit, need));
  setup.request.ranks = 2;
  EXPECT_THROW(planned(setup), Error);
}

TEST(Plan, QuantizedWeightsAreNotStreamed) {
  PlanSetup setup = setup_of(0, 0, AttentionKind::flash_attention_2);
  setup.policy = PrecisionPolicy::of_preset("balanced");
  EXPECT_FALSE(least_streamed(setup).streamed);
}

TEST(Plan, WhatDoesNotFitIsRefusedInWords) {
  PlanSetup setup = setup_of(2, 1100, AttentionKind::eager);
  const Plan plan = planned(setup), least = least_streamed(setup);
  EXPECT_FALSE(require_fit(demo(), setup, plan.peak()).streamed);
  EXPECT_TRUE(require_fit(demo(), setup, plan.peak() - 1).streamed);
  EXPECT_TRUE(require_fit(demo(), setup, least.peak()).streamed);
  try {
    require_fit(demo(), setup, least.peak() - 1);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::exhausted);
    const std::string words = error.what();
    for (const std::string& word : {need_text(least), std::string("vision attention scratch"),
                                    std::string("--attn flash_attention_2 ("), std::string("--ram")}) {
      EXPECT_NE(words.find(word), std::string::npos) << words;
    }
  }
}

}  // namespace
}  // namespace fovea
