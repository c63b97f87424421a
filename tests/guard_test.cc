// Goal: the guard works on a whole model: it names the layers and heads that carry a bias, its counts do not
// depend on chunks, and `escalate` makes eager as good as eager with fp32 scores. Method: the golden
// checkpoint with planted biases (layers 0 and 2 of 3); logits and reports compared.
#include <gtest/gtest.h>

#include "base/error.h"
#include "biased_model_testing.h"

namespace fovea {
namespace {

using testing::Model;

const Model& model() {
  static const Model biased(100, 13.4);
  return biased;
}

std::vector<int64_t> at_risk(const std::vector<std::vector<HeadGuard>>& layers) {
  std::vector<int64_t> counts;
  for (const auto& heads : layers) {
    HeadGuard total;
    for (const HeadGuard& head : heads) total.add(head);
    counts.push_back(total.at_risk);
  }
  return counts;
}

TEST(Guard, NamesTheLayersThatCarryTheBias) {
  const Engine engine = model().with("preset=eager-bf16", GuardMode::warn);
  const GuardReport report = model().evaluate(engine).guard;
  const auto rows = static_cast<int64_t>(model().prompt().ids.size()) * 2;
  EXPECT_EQ(at_risk(report.text), (std::vector<int64_t>{rows, 0, rows}));
  EXPECT_EQ(at_risk(report.vision), (std::vector<int64_t>{0, 0, 0, 0}));
  for (const auto& heads : report.text) {
    for (const HeadGuard& head : heads) EXPECT_EQ(head.rows, rows / 2);
  }
  EXPECT_GT(report.vision[0][0].rows, 0);
  EXPECT_EQ(report.text[0][0].recomputed, 0);
  EXPECT_EQ(model().evaluate(engine, 100).guard.text, report.text) << "chunks change the counts";
}

// flash stores no scores: nothing is at risk, and the bound says what 16-bit scores would do.
TEST(Guard, AdvisesWhereNothingIsStored) {
  for (const char* policy : {"preset=flash-bf16", "preset=flash-bf16-bias-split", "preset=sdpa,dtype=bf16"}) {
    const Engine engine = model().with(policy, GuardMode::escalate);
    const Evaluation whole = model().evaluate(engine);
    const GuardReport& report = whole.guard;
    EXPECT_EQ(at_risk(report.text), (std::vector<int64_t>{0, 0, 0})) << policy;
    const auto rows = static_cast<int64_t>(model().prompt().ids.size());
    EXPECT_EQ(report.text[0][1].would_be_at_risk, rows) << policy;
    // Of keys kept without their bias only |k| + |b| is known, which is looser.
    if (!engine.precision().text.tower.bias_split) {
      EXPECT_EQ(report.text[1][0].would_be_at_risk, 0) << policy;
    }
    EXPECT_EQ(report.text[2][0].would_be_at_risk, rows) << policy;
    EXPECT_EQ(model().evaluate(engine, 100).guard.text, report.text) << policy;
    EXPECT_EQ(std::vector<float>(whole.logits.span().begin(), whole.logits.span().end()),
              model().logits(policy))
        << policy;
  }
}

TEST(Guard, EscalationIsAsGoodAsFp32Scores) {
  const double escalated = model().distance(model().logits("preset=eager-bf16", GuardMode::escalate)),
               wide = model().distance("preset=eager-qk-fp32,dtype=bf16"),
               plain = model().distance("preset=eager-bf16");
  EXPECT_LE(escalated, 1.1 * wide);
  EXPECT_GE(plain, 1.5 * wide) << "positive control";
}

TEST(Guard, RescuesFp16FromOverflow) {
  const Model loud(400, 60);
  EXPECT_THROW(loud.logits("preset=eager-fp16", GuardMode::warn), Error) << "positive control";
  EXPECT_LE(loud.distance(loud.logits("preset=eager-fp16", GuardMode::escalate)),
            1.1 * loud.distance("preset=eager-qk-fp32,dtype=fp16"));
}

TEST(Guard, ReportsWithTheAnswer) {
  const Engine engine = model().with("preset=eager-bf16", GuardMode::escalate);
  GenerationOptions options = engine.default_generation();
  options.sampling.greedy = options.ignore_eos = true;
  options.max_new_tokens = 3;
  const Answer answer = engine.generate(model().prompt(), options, {});
  // The last token is never fed.
  const auto rows = static_cast<int64_t>(model().prompt().ids.size()) + 2;
  EXPECT_EQ(answer.guard.options.mode, GuardMode::escalate);
  EXPECT_EQ(answer.guard.text[0][0].rows, rows);
  EXPECT_EQ(answer.guard.text[0][0].recomputed, rows);
  EXPECT_EQ(answer.guard.text[1][0].recomputed, 0);
  EXPECT_TRUE(model().evaluate(model().with("")).guard.text.empty()) << "off";
  EngineOptions nonsense;
  nonsense.guard.tau = 0;
  EXPECT_THROW(engine.with(nonsense), Error);
}

}  // namespace
}  // namespace fovea
