// Goal: rows are spent on drafts where they bring more tokens a second, on the likeliest first, and no more
// of them than steps have shown to be cheap. Method: times and chances made up; what the optimum is, by
// trying all numbers of rows.
#include "runtime/draft_share.h"

#include <gtest/gtest.h>

#include <numeric>

namespace fovea {
namespace {

int64_t sum(const std::vector<int64_t>& shares) {
  return std::accumulate(shares.begin(), shares.end(), int64_t{0});
}

TEST(DraftShare, NothingIsDraftedBeforeAnythingWasMeasured) {
  const std::vector<std::vector<double>> chances{{1, 1}, {1, 1}};
  EXPECT_EQ(sum(share_drafts({}, chances)), 0);
}

TEST(DraftShare, CheapRowsAreSpentAndDearOnesAreNot) {
  StepTimes cheap, dear;
  for (int64_t rows = 1; rows <= 16; ++rows) {
    cheap.timed(rows, 1 + 0.01 * static_cast<double>(rows));
    dear.timed(rows, static_cast<double>(rows));
  }
  const std::vector<std::vector<double>> chances{{.5, .25, .125}, {.9, .8, .7}, {}};
  EXPECT_EQ(share_drafts(cheap, chances), (std::vector<int64_t>{3, 3, 0}));
  EXPECT_EQ(share_drafts(dear, chances), (std::vector<int64_t>{0, 0, 0}));
}

TEST(DraftShare, TheLikeliestGoFirst) {
  StepTimes times;
  for (int64_t rows = 1; rows <= 16; ++rows) times.timed(rows, rows <= 5 ? 1 : 100);
  const std::vector<std::vector<double>> chances{{.5, .4}, {.9, .6}, {.1}};
  EXPECT_EQ(share_drafts(times, chances), (std::vector<int64_t>{0, 2, 0}));
}

// A wider step may have been timed shorter: that is no reason to verify what nobody announced.
TEST(DraftShare, NothingIsSharedOutBeyondWhatWasAnnounced) {
  StepTimes times;
  for (int64_t rows = 1; rows <= 16; ++rows) times.timed(rows, 1 / static_cast<double>(rows));
  EXPECT_EQ(share_drafts(times, std::vector<std::vector<double>>{{}, {}}), (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(share_drafts(times, std::vector<std::vector<double>>{{}, {.5}}), (std::vector<int64_t>{0, 1}));
}

TEST(DraftShare, OneRowMoreThanWasMadeIsTried) {
  StepTimes times;
  times.timed(2, 1);
  const std::vector<std::vector<double>> sure{{1, 1, 1}, {1, 1, 1}};
  EXPECT_EQ(sum(share_drafts(times, sure)), 0);  // as dear as those before it: nothing is won
  times.timed(1, 0.9);
  EXPECT_EQ(sum(share_drafts(times, sure)), 1);
  times.timed(3, 1.1);
  EXPECT_EQ(sum(share_drafts(times, sure)), 2);
}

TEST(DraftShare, TimesBetweenAreInterpolated) {
  StepTimes times;
  EXPECT_EQ(times.seconds(3), 0);
  times.timed(4, 2);
  EXPECT_EQ(times.seconds(1), 2);
  times.timed(8, 4);
  EXPECT_DOUBLE_EQ(times.seconds(6), 3);
  EXPECT_DOUBLE_EQ(times.seconds(9), 4.5);
  times.timed(8, 3);
  EXPECT_DOUBLE_EQ(times.seconds(8), 3);  // shorter: at once
  times.timed(8, 11);
  EXPECT_DOUBLE_EQ(times.seconds(8), 4);  // longer: slowly
}

}  // namespace
}  // namespace fovea
