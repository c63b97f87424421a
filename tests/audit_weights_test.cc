// Goal: an audit whose configurations have no room beside each other says what one with room says; weights
// that are no longer needed are gone, and those that fit are made once. Method: the golden checkpoint under
// configurations that convert and quantize its weights, a check that allows so many bytes of them; what
// malloc says is in use.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <filesystem>

#include "audit/audit.h"
#include "base/error.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

const fs::path kGolden = fs::path(FOVEA_SOURCE_DIR) / "tests" / "golden" / "one_image";

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMallocTells = false;  // the sanitizer's allocator keeps no such statistics
#else
constexpr bool kMallocTells = true;
#endif

int64_t in_use() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

Suite suite() {
  Suite suite;
  suite.source = "test";
  for (int i = 0; i < 5; ++i) {
    SuiteItem item;
    item.id = fmt::format("q{}", i);
    item.messages = messages_from_prompt(
        fmt::format("What is number {}?", 7 * i),
        i % 2 == 0 ? std::vector<std::string>{(kGolden / "inputs" / "image0.png").string()}
                   : std::vector<std::string>{},
        {}, {});
    item.answers = {"?"};
    suite.items.push_back(std::move(item));
  }
  suite.lines = 5;
  return suite;
}

AuditOptions options() {
  AuditOptions options;
  options.compare = parse_configurations("eager-fp16,balanced,fast,eager-bf16");
  options.reference = parse_configuration("fp32");
  options.evaluation.max_new_tokens = 4;
  return options;
}

class AuditWeights : public testing::Test {
 protected:
  AuditWeights() : engine_(Engine::open(kGolden, {}, {})) {}

  ConvertedWeights weights(const Configuration& one) const {
    EngineOptions asked;
    asked.policy = one.policy;
    return {engine_.checkpoint(), one.policy.resolve(policy_target(asked, engine_.checkpoint())).precision};
  }
  int64_t bytes(const Configuration& one) const { return weights(one).bytes(); }

  // An audit with room for so many bytes of converted weights.
  ordered_json audit(int64_t room) {
    AuditOptions with = options();
    most_now_ = 0;
    with.check = [&](const EngineOptions& asked, const ConvertedBytes& converted, bool, int64_t,
                     std::span<const Picture>, std::span<const MediaOptions>) {
      most_now_ = std::max(most_now_, converted.now);
      least_in_use_ = std::min(least_in_use_, in_use() - converted.now);
      most_in_use_ = std::max(most_in_use_, in_use() - converted.now);
      if (bytes({"", *asked.policy, asked.guard.mode}) + converted.others > room) {
        throw Error(ErrorKind::exhausted, "no room", "give more");
      }
      return EngineRoom{};
    };
    return run_audit(*audited_, suite(), with, {}).json;
  }
  static std::vector<ordered_json> answers(const ordered_json& audit) {
    std::vector<ordered_json> list;
    for (const auto& configuration : audit["configurations"]) {
      for (ordered_json item : configuration["items"]) {
        item.erase("seconds");
        list.push_back(item);
      }
    }
    return list;
  }

  Engine engine_;
  const Engine* audited_ = &engine_;
  int64_t most_now_ = 0, least_in_use_ = int64_t{1} << 60, most_in_use_ = 0;
};

TEST_F(AuditWeights, LittleRoomChangesNoAnswer) {
  // Questions that wait for the next engine keep their pixels, within this budget: here one question does.
  EngineOptions one_at_a_time;
  one_at_a_time.vision_budget_bytes = 1;
  const Engine engine = engine_.with(one_at_a_time);
  audited_ = &engine;
  int64_t largest = 0;
  ConvertedWeights all;
  for (const Configuration& one : options().compare) {
    largest = std::max(largest, bytes(one));
    all.add(weights(one));
  }
  ASSERT_GT(largest, 0);
  ASSERT_GT(all.bytes(), largest);
  const std::vector<ordered_json> expected = answers(run_audit(engine_, suite(), options(), {}).json);
  ASSERT_EQ(expected.size(), 25u);
  EXPECT_EQ(answers(audit(all.bytes())), expected);
  EXPECT_EQ(most_now_, all.bytes());
  EXPECT_EQ(answers(audit(largest)), expected);
  EXPECT_LE(most_now_, largest);
  EXPECT_EQ(answers(audit((largest + all.bytes()) / 2)), expected);
  EXPECT_LE(most_now_, (largest + all.bytes()) / 2);
  // What is neither counted as converted nor small comes and goes with questions, not with configurations.
  if (kMallocTells) {
    EXPECT_LT(most_in_use_ - least_in_use_, largest / 2);
  }
}

TEST_F(AuditWeights, WhatFitsNowhereIsNamed) {
  try {
    audit(bytes(options().compare[0]) - 1);
    ADD_FAILURE() << "there was room";
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("configuration eager-fp16: no room"), std::string::npos)
        << error.message();
  }
}

TEST_F(AuditWeights, CopiesGoWithTheLastWhoHasThem) {
  if (!kMallocTells) GTEST_SKIP() << "needs glibc's malloc";
  const Configuration half = parse_configuration("eager-fp16");
  EngineOptions asked;
  asked.policy = half.policy;
  const int64_t before = in_use();
  {
    std::optional<Engine> one(engine_.with(asked));
    const int64_t with_one = in_use();
    EXPECT_GE(with_one - before, bytes(half));
    const Engine other = engine_.with(asked);
    EXPECT_LT(in_use() - with_one, bytes(half) / 2);  // shared
    one.reset();
    EXPECT_GE(in_use() - before, bytes(half));
  }
  EXPECT_LT(in_use() - before, bytes(half) / 4);
}

TEST_F(AuditWeights, AnEngineKeepsTheBudgetOfTheOneItCameFrom) {
  EngineOptions small;
  small.vision_budget_bytes = 1;
  const Engine engine = Engine::open(kGolden, small, {});
  EXPECT_EQ(engine.with({}).options().vision_budget_bytes, 1);
  EXPECT_EQ(engine_.with({}).options().vision_budget_bytes, kVisionBudgetBytes);
  EXPECT_EQ(engine_.with(small).options().vision_budget_bytes, 1);
}

}  // namespace
}  // namespace fovea
