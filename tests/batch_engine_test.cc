// Goal: whatever happens around a request, its tokens and every row of its logits are those it gets alone,
// bit for bit. Method: random schedules on the demo model: arrivals while others run, prompts that share
// their beginnings, pictures that are shared or not, few blocks, small steps, cancelled and failing company,
// 1 to 4 threads. What must happen often enough (preemption, a copied block, eviction, a found prefix, a
// cancel in each state) is counted over all schedules.
#include "runtime/batch_engine.h"

#include <gtest/gtest.h>

#include "base/scratch_file_testing.h"
#include "batch_schedules_testing.h"
#include "checkpoint/weight_groups.h"

namespace fovea {
namespace {

using namespace batch_testing;

class EverySchedule : public testing::TestWithParam<const char*> {};

// 72 schedules for each of seven policies: what is counted below is at least 50 in all of them together.
TEST_P(EverySchedule, ChangesNoBit) {
  Seen seen;
  Model model(GetParam());
  for (uint64_t seed = 0; seed < 72; ++seed) {
    SCOPED_TRACE(seed);
    Schedule(model, 1000 * std::string_view(GetParam()).size() + seed).run(seen);
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
  EXPECT_GE(seen.preempted, 8);
  EXPECT_GE(seen.evicted, 8);
  EXPECT_GE(seen.copied, 8);
  EXPECT_GE(seen.hit, 8);
  EXPECT_GE(seen.picture_hit, 8);
  EXPECT_GE(seen.accepted, 8);
  for (const RequestState state : {RequestState::queued, RequestState::prefill, RequestState::decode}) {
    EXPECT_GE(seen.cancelled_in[state], 8) << static_cast<int>(state);
  }
}

INSTANTIATE_TEST_SUITE_P(BatchEngine, EverySchedule,
                         testing::Values("dtype=fp32", "dtype=bf16", "preset=eager-bf16", "preset=balanced",
                                         "preset=fast", "text.bias_split=on",
                                         "text.k_cache=int8,text.v_cache=int8"));

// A second request over what a first one brought: nothing but its own last tokens is computed.
TEST(BatchEngine, WhatIsKnownIsNotComputedAgain) {
  Model model("dtype=bf16");
  BatchEngine batch(model.engine(), model.limits(64));
  Case c{"what is red here, and where does it stand?", {"jpeg_420.jpg", "bmp_24.bmp"}, 0, true, 4};
  for (int i = 0; i < 3; ++i) {
    const BatchMetrics before = batch.metrics();
    Told told;
    const auto prompt_tokens = std::ssize(model.prompt(c).ids);
    batch.add(model.prompt(c), model.options(c), listen(told));
    while (batch.step()) {
    }
    EXPECT_EQ(told.answer.token_ids, model.alone(c).answer.token_ids);
    const BatchMetrics after = batch.metrics();
    EXPECT_EQ(after.pictures_encoded - before.pictures_encoded, i == 0 ? 2 : 0);
    EXPECT_EQ(after.rows - before.rows, (i == 0 ? prompt_tokens : 1) + c.tokens - 1) << i;
  }
}

// Fifty requests over the same text that arrive at once: it is computed once.
TEST(BatchEngine, TwinsWaitForEachOther) {
  Model model("dtype=bf16");
  BatchLimits limits = model.limits(400);
  limits.max_num_seqs = 50;
  BatchEngine batch(model.engine(), limits);
  std::vector<Told> told(50);
  std::string text;
  for (int i = 0; i < 100; ++i) text += "a red circle ";
  int64_t prompt_tokens = 0, own_tokens = 0;
  for (size_t i = 0; i < told.size(); ++i) {
    const Case c{text + std::to_string(i), {}, 0, true, 2};
    Prompt prompt = model.prompt(c);
    prompt_tokens = std::ssize(prompt.ids);
    batch.add(std::move(prompt), model.options(c), listen(told[i]));
  }
  while (batch.step()) {
  }
  for (size_t i = 0; i < told.size(); ++i) {
    EXPECT_EQ(told[i].answer.token_ids,
              model.alone({text + std::to_string(i), {}, 0, true, 2}).answer.token_ids);
  }
  own_tokens = batch.metrics().rows - prompt_tokens;
  EXPECT_LT(own_tokens, 50 * 64);  // at most a block each, of several hundred tokens
  EXPECT_GT(prompt_tokens, 256);
}

// While somebody's picture is encoded, somebody else's tokens come.
TEST(BatchEngine, NobodyWaitsForAPicture) {
  Model model("dtype=bf16");
  BatchLimits limits = model.limits(64);
  limits.step_seconds = 1e-9;
  BatchEngine batch(model.engine(), limits);
  const Case talker{"tell me", {}, 0, true, 400}, shower{"what is it?", {"jpeg_420.jpg"}, 0, true, 3};
  Told first, second;
  batch.add(model.prompt(talker), model.options(talker), listen(first));
  while (first.logits.empty()) batch.step();
  const size_t before = first.logits.size();
  batch.add(model.prompt(shower), model.options(shower), listen(second));
  while (second.logits.empty()) batch.step();
  const size_t vocab = model.alone(shower).logits.size() / model.alone(shower).answer.token_ids.size();
  EXPECT_GE((first.logits.size() - before) / vocab, 10u);
  while (batch.step()) {
  }
  EXPECT_TRUE(same_bits(first.logits, model.alone(talker).logits));
  EXPECT_TRUE(same_bits(second.logits, model.alone(shower).logits));
}

// What comes from disk, weights or keys and values, is passed once for all requests of a step.
struct FromDisk {
  explicit FromDisk(const EngineOptions& options) : engine(Engine::open(kDemo, options, {})) {}

  // Cases that share nothing, all at once.
  std::vector<Told> answers(Model& model, std::span<const Case> cases) const {
    std::vector<Told> told(cases.size());
    BatchEngine batch(engine, model.limits(64));
    for (size_t i = 0; i < cases.size(); ++i) {
      batch.add(model.prompt(cases[i]), model.options(cases[i]), listen(told[i]));
    }
    while (batch.step()) {
    }
    return told;
  }
  Engine engine;
};

std::vector<Case> unequal_cases() {
  std::vector<Case> cases;
  for (int i = 0; i < 4; ++i) {
    Case c{std::to_string(i) + " how many red dots are there?", {}, 0, true, 30};
    if (i == 1) c.pictures = {"jpeg_420.jpg"};
    if (i == 2) c.pictures = {"bmp_24.bmp", "jpeg_422.jpg"};
    cases.push_back(c);
  }
  return cases;
}

TEST(BatchEngine, StreamsWeightsOnceForAllRequestsOfAStep) {
  Model model("dtype=bf16");
  const WeightGroups groups(model.engine().checkpoint());
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text("dtype=bf16");
  options.weight_limit =
      WeightLimit{least_residency(groups, groups.vision()), least_residency(groups, groups.text())};
  const FromDisk disk(options);
  const std::vector<Case> cases = unequal_cases();
  const std::vector<Told> told = disk.answers(model, cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_TRUE(same_bits(told[i].logits, model.alone(cases[i]).logits)) << i;
    EXPECT_EQ(told[i].answer.token_ids, model.alone(cases[i]).answer.token_ids) << i;
  }
  const int64_t together = disk.engine.stream_state().fetched_bytes;
  for (const Case& c : cases) disk.answers(model, {&c, 1});
  const int64_t apart = disk.engine.stream_state().fetched_bytes - together;
  EXPECT_GT(together, 0);
  EXPECT_LT(together, apart * 2 / 3);
}

TEST(BatchEngine, KeepsKeysAndValuesOfEachRequestOnDisk) {
  if (!disk_here()) GTEST_SKIP() << "the working folder lies in memory";
  Model model("dtype=bf16");
  EngineOptions options;
  options.policy = PrecisionPolicy::parse_text("dtype=bf16");
  options.kv_offload = KvOffload{".", 0};
  const FromDisk disk(options);
  const std::vector<Case> cases = unequal_cases();
  const std::vector<Told> told = disk.answers(model, cases);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_TRUE(same_bits(told[i].logits, model.alone(cases[i]).logits)) << i;
    EXPECT_EQ(told[i].answer.kv_cache.layers_on_disk, 3);
    EXPECT_GT(told[i].answer.kv_cache.written_bytes, 0);
  }
}

// Pictures of equal shape have equal pads. What tells them apart is their digest: with one that cannot, the
// second request gets the first one's keys, and this test sees it.
TEST(BatchEngine, PicturesOfEqualShapeAreNotEqual) {
  Model model("dtype=bf16");
  const Case first{"what is it?", {"jpeg_420.jpg"}, 0, true, 3},
      second{"what is it?", {"bmp_24.bmp"}, 0, true, 3};
  ASSERT_EQ(model.prompt(first).ids, model.prompt(second).ids);
  ASSERT_FALSE(same_bits(model.alone(first).logits, model.alone(second).logits));
  for (const bool blind : {false, true}) {
    BatchLimits limits = model.limits(64);
    if (blind) limits.digest = [](const Picture&) { return Digest{}; };
    BatchEngine batch(model.engine(), limits);
    for (const Case& c : {first, second}) {
      Told told;
      batch.add(model.prompt(c), model.options(c), listen(told));
      while (batch.step()) {
      }
      EXPECT_EQ(same_bits(told.logits, model.alone(c).logits), !blind || c == first);
    }
  }
}

TEST(BatchEngine, WhatCannotBeIsRefusedByName) {
  Model model("dtype=bf16");
  const Case c{"one two three", {}, 0, true, 3};
  BatchEngine batch(model.engine(), model.limits(1));
  Case huge = c;
  huge.tokens = 200;
  Told told;
  EXPECT_THROW(batch.add(model.prompt(huge), model.options(huge), listen(told)), Error);
  BatchLimits none = model.limits(1);
  none.kv_cache_bytes = 1;
  EXPECT_THROW(BatchEngine(model.engine(), none), Error);
  Case nothing = c;
  nothing.tokens = 0;
  batch.add(model.prompt(nothing), model.options(nothing), listen(told));
  EXPECT_TRUE(told.over);
  EXPECT_EQ(told.answer.finish_reason, "length");
}

}  // namespace
}  // namespace fovea
