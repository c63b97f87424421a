// Goal: a configuration is called safe, unsafe or undecided as conclusion.h says. Method: made-up results.
#include "audit/conclusion.h"

#include <gtest/gtest.h>

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

 private:
  std::deque<SuiteItem> items_;
  std::deque<ItemResult> results_;
  ItemFacts facts_;
};

TEST(Conclusion, Verdicts) {
  Results results;
  const Compared reference = results.of("1111111111", 0);
  EXPECT_EQ(verdict_of(reference, results.of("1111111111", 0.001)), Verdict::safe);
  EXPECT_EQ(verdict_of(reference, results.of("1111111111", 0.5)), Verdict::undecided);
  EXPECT_EQ(verdict_of(reference, results.of("0111111111", 0.001)), Verdict::undecided);
  // Five losses without a gain: 1 / 32 under the hypothesis that both are equally likely; four: 1 / 16.
  EXPECT_EQ(verdict_of(reference, results.of("0000111111", 0.001)), Verdict::undecided);
  EXPECT_EQ(verdict_of(reference, results.of("0000011111", 0.001)), Verdict::unsafe);
  EXPECT_EQ(verdict_of(reference, results.of("x111111111", 0.001)), Verdict::unsafe);
  const Compared half = results.of("1111100000", 0);
  EXPECT_EQ(verdict_of(half, results.of("0000011111", 0.001)), Verdict::safe);  // five lost, five gained
}

}  // namespace
}  // namespace fovea
