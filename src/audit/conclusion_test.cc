// Goal: a configuration is called safe, unsafe or undecided as verdict.h says, and the words are true.
// Method: made-up results.
#include "audit/conclusion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>

namespace fovea {
namespace {

class Results {
 public:
  // A configuration with right answers where `right` has a '1', stopped where it has an 'x'.
  Compared of(const std::string& right, double kl) {
    Compared compared;
    for (size_t i = 0; i < right.size(); ++i) {
      while (items_.size() <= i) {
        SuiteItem& item = items_.emplace_back();
        item.id = fmt::format("q{}", items_.size());
      }
      ItemResult& result = results_.emplace_back();
      result.correct = right[i] == '1';
      if (right[i] == 'x') {
        result.problem = "stopped";
      } else {
        result.kl = {kl};
      }
      compared.answered.push_back({&items_[i], &facts_, &result});
    }
    return compared;
  }
  // The result of the last question of `compared`.
  ItemResult& last_of(const Compared& compared) {
    for (ItemResult& result : results_) {
      if (&result == compared.answered.back().result) return result;
    }
    throw std::logic_error("not of these results");
  }

 private:
  std::deque<SuiteItem> items_;
  std::deque<ItemResult> results_;
  ItemFacts facts_;
};

constexpr double kTolerated = 0.05;

std::string many(size_t wrong, size_t right) { return std::string(wrong, '0') + std::string(right, '1'); }

TEST(Conclusion, UnsafeIsWhatLosesMoreThanChanceOrStops) {
  Results results;
  const Compared reference = results.of("1111111111", 0);
  // Five losses without a gain: 1 / 32 under the hypothesis that both are equally likely; four: 1 / 16.
  EXPECT_EQ(verdict_of(reference, results.of("0000111111", 0.001), kTolerated), Verdict::undecided);
  EXPECT_EQ(verdict_of(reference, results.of("0000011111", 0.001), kTolerated), Verdict::unsafe);
  EXPECT_EQ(verdict_of(reference, results.of("x111111111", 0.001), kTolerated), Verdict::unsafe);
}

TEST(Conclusion, SafeIsWhatEnoughQuestionsShow) {
  Results results;
  // 0.95^59 = 0.0485 and 0.95^58 = 0.0510.
  EXPECT_EQ(verdict_of(results.of(many(0, 58), 0), results.of(many(0, 58), 0.001), kTolerated),
            Verdict::undecided);
  EXPECT_EQ(verdict_of(results.of(many(0, 59), 0), results.of(many(0, 59), 0.001), kTolerated),
            Verdict::safe);
  EXPECT_EQ(verdict_of(results.of(many(0, 59), 0), results.of(many(0, 59), 0.06), kTolerated),
            Verdict::undecided);
  // What the reference has wrong cannot be lost and shows nothing.
  EXPECT_EQ(verdict_of(results.of(many(100, 58), 0), results.of(many(100, 58), 0.001), kTolerated),
            Verdict::undecided);
  // One is lost: 0.95^93 + 93 x 0.05 x 0.95^92 = 0.0500 is a little less than 5 %, with 92 it is 0.0522.
  EXPECT_EQ(verdict_of(results.of(many(0, 92), 0), results.of(many(1, 91), 0.001), kTolerated),
            Verdict::undecided);
  EXPECT_EQ(verdict_of(results.of(many(0, 93), 0), results.of(many(1, 92), 0.001), kTolerated),
            Verdict::safe);
}

// The numbers of questions against the sum of binomial probabilities in its plain form.
TEST(Conclusion, TheNumberOfQuestionsIsTheFewestThatShowIt) {
  const auto chance = [](int64_t lost, int64_t right, double loss) {
    double sum = 0, term = std::pow(1 - loss, static_cast<double>(right));
    for (int64_t k = 0; k <= lost; ++k) {
      sum += term;
      term *= static_cast<double>(right - k) / static_cast<double>(k + 1) * loss / (1 - loss);
    }
    return sum;
  };
  for (const double loss : {0.05, 0.02, 0.01}) {
    for (const int64_t lost : {0, 1, 2, 7}) {
      const std::optional<int64_t> needed = right_answers_needed(lost, loss);
      ASSERT_TRUE(needed);
      EXPECT_LE(chance(lost, *needed, loss), 0.05) << lost << " of " << *needed;
      EXPECT_GT(chance(lost, *needed - 1, loss), 0.05) << lost << " of " << *needed;
    }
  }
  EXPECT_FALSE(right_answers_needed(0, 0));
  EXPECT_EQ(tolerated_loss(0.5), 0.05);
  EXPECT_NEAR(tolerated_loss(0.99), 0.01, 0x1p-53);  // 0.99 is no double: it is off by up to 2^-54
}

// A decoder whose layers 0 to 2 and 5 are in danger, and a vision tower whose scores are small.
class RiskWords : public ::testing::Test {
 protected:
  RiskWords() {
    text_.tower.attention.scores = text_.tower.attention.scaled = DType::bf16;
    text_.tower.kind = AttentionKind::eager;
    text_.layers.assign(8, text_.tower);
    precision_.text = text_;
    precision_.vision = text_;
    bad_ = results_.of(many(60, 0), 1);
    bad_.configuration = &eager_;
    bad_.precision = &precision_;
    reference_ = results_.of(many(0, 60), 0);
    reference_.configuration = &fp32_;
    reference_.precision = &precision_;
    const std::vector<LayerSums> layers = {
        layer(ModelPart::vision, 3, 38, 1), layer(ModelPart::text, 0, 900, 4),
        layer(ModelPart::text, 1, 9302, 4), layer(ModelPart::text, 2, 70, 4),
        layer(ModelPart::text, 4, 1, 0),    layer(ModelPart::text, 5, 80, 4)};
    results_.last_of(bad_).layers = layers;
  }

  static LayerSums layer(ModelPart part, int64_t index, double largest, int64_t at_risk) {
    LayerSums sums;
    sums.part = part;
    sums.layer = index;
    sums.heads.push_back({.rows = 10, .at_risk = at_risk, .largest_score = largest});
    return sums;
  }

  std::string words(const Attribution* attribution) const {
    const std::vector<Compared> compared = {reference_, bad_};
    std::string all;
    for (const std::string& sentence :
         conclude(compared.data(), compared, attribution, nullptr, kTolerated)) {
      all += sentence + "\n";
    }
    return all;
  }

  Results results_;
  Configuration eager_{"eager-bf16", {}}, fp32_{"fp32", {}};
  LayeredPrecision text_;
  Precision precision_;
  Compared bad_, reference_;
};

TEST_F(RiskWords, AMaximumBelongsToTheLayerThatHasIt) {
  const std::string all = words(nullptr);
  EXPECT_NE(all.find("in decoder layer 1 scores reach 9302"), std::string::npos) << all;
  EXPECT_NE(all.find("in decoder layers 0-2, 5 are at risk"), std::string::npos) << all;
  EXPECT_NE(all.find("in vision block 3 scores reach 38"), std::string::npos) << all;
}

TEST_F(RiskWords, ATowerThatTheAttributionAcquitsIsNotAccused) {
  Attribution attribution;
  attribution.configuration = "eager-bf16";
  attribution.guilty_nodes = {{"text", "scores"}, {"text", "scaled"}};
  std::string all = words(&attribution);
  EXPECT_EQ(all.find("vision block"), std::string::npos) << all;
  EXPECT_NE(all.find("those of the vision tower, at most 38, are not to blame"), std::string::npos) << all;
  attribution.configuration = "eager-fp16";  // of another configuration it says nothing
  all = words(&attribution);
  EXPECT_NE(all.find("in vision block 3 scores reach 38"), std::string::npos) << all;
}

TEST_F(RiskWords, FewQuestionsAreSaid) {
  Results results;
  Compared reference = results.of(many(0, 8), 0), same = results.of(many(0, 8), 0.001);
  reference.configuration = &fp32_;
  same.configuration = &eager_;
  reference.precision = same.precision = &precision_;
  const std::vector<Compared> compared = {reference, same};
  std::string all;
  for (const std::string& sentence : conclude(compared.data(), compared, nullptr, nullptr, kTolerated)) {
    all += sentence + "\n";
  }
  EXPECT_EQ(all.find("Safe here"), std::string::npos) << all;
  for (const char* part :
       {"Too few questions: fp32 answers 8 of them right", "It takes 59, none of them lost, to rule out",
        "that 5 % or more are lost", "Undecided: eager-bf16"}) {
    EXPECT_NE(all.find(part), std::string::npos) << part << " in " << all;
  }
}

TEST_F(RiskWords, WhatIsSafeSaysWhatTheQuestionsRuleOut) {
  Results results;
  Compared reference = results.of(many(0, 93), 0), same = results.of(many(0, 93), 0.001),
           near = results.of(many(1, 92), 0.001);
  const Configuration flash{"flash-bf16", {}};
  reference.configuration = &fp32_;
  same.configuration = &eager_;
  near.configuration = &flash;
  reference.precision = same.precision = near.precision = &precision_;
  const std::vector<Compared> compared = {reference, same, near};
  const auto sentences = conclude(compared.data(), compared, nullptr, nullptr, kTolerated);
  ASSERT_FALSE(sentences.empty());
  EXPECT_EQ(sentences.back(),  // behind those about the made-up answers, which are empty
            "Safe here: eager-bf16 (none lost), flash-bf16 (1 lost): of the 93 answers that fp32 has right, "
            "losing so few rules out with 95 % confidence that 5 % or more are lost on questions like these, "
            "and the distributions are close.");
}

}  // namespace
}  // namespace fovea
