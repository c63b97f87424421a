// Goal: speculation is used where it pays and left where it does not, whatever the machine. Method: machines
// that are a formula for the time of a step, texts that are a rate of announced tokens that come; the time of
// the whole is compared with that of plain decoding.
#include "runtime/draft_length.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/splitmix64.h"

namespace fovea {
namespace {

struct Outcome {
  double seconds = 0;
  int64_t tokens = 0, steps = 0;
  double speed() const { return static_cast<double>(tokens) / seconds; }
};

// Decodes `total` tokens; each is announced by a match of four, rightly with this probability.
Outcome decode(const std::function<double(int64_t)>& time_of_rows, double right, int64_t total,
               int64_t most = DraftLength::kMost) {
  DraftLength length;
  SplitMix64 random(3);
  const auto comes = [&] { return static_cast<double>(random.bits() >> 11) * 0x1p-53 < right; };
  Outcome outcome;
  while (outcome.tokens < total) {
    const int64_t draft = length.choose(4, most);
    EXPECT_LE(draft, most);
    length.timed(1 + draft, time_of_rows(1 + draft));
    outcome.seconds += time_of_rows(1 + draft);
    outcome.steps += draft > 0;
    int64_t accepted = 0;
    for (; accepted < draft && comes(); ++accepted) length.announced(4, true);
    length.announced(4, accepted == draft && comes());
    outcome.tokens += 1 + accepted;
  }
  return outcome;
}

// Tokens a second of drafts of one length.
double speed_of(const std::function<double(int64_t)>& time_of_rows, double right, int64_t draft) {
  return (1 - std::pow(right, draft + 1)) / (1 - right) / time_of_rows(1 + draft);
}

// What learning costs of 4000 tokens is less than a tenth: the times of four widths, the rate of 16 tokens.
TEST(DraftLength, IsCloseToTheBestLengthOfAnyMachine) {
  const std::function<double(int64_t)> machines[] = {
      [](int64_t rows) { return 1 + .02 * static_cast<double>(rows - 1); },  // reads weights
      [](int64_t rows) { return 1 + .3 * static_cast<double>(rows - 1); },
      [](int64_t rows) { return rows == 1   ? 1.
                                : rows <= 4 ? 1.3
                                            : .35 * static_cast<double>(rows); }};
  for (const auto& machine : machines) {
    for (const double right : {.6, .9, .98}) {
      double best = 1 / machine(1);
      for (const int64_t draft : {1, 3, 7, 15}) best = std::max(best, speed_of(machine, right, draft));
      EXPECT_GE(decode(machine, right, 4000).speed(), .9 * best) << machine(4) << " " << right;
    }
  }
}

// Rows that cost a token each can never pay: what is left are the probes, every 256th token in the end, and a
// first round of all widths.
TEST(DraftLength, CostsLittleWhereItNeverPays) {
  const auto no_gain = [](int64_t rows) { return static_cast<double>(rows); };
  for (const double right : {0., .5, .9}) {
    const Outcome outcome = decode(no_gain, right, 4000);
    EXPECT_LE(outcome.seconds, 1.02 * 4000 + 32) << right;
    EXPECT_GE(outcome.steps, 1) << right;
  }
}

TEST(DraftLength, ComesBackWhenRowsBecomeCheap) {
  DraftLength length;
  length.timed(1, 1);
  for (int i = 0; i < 100; ++i) length.announced(4, true);
  length.timed(2, 5);  // something else ran
  EXPECT_EQ(length.choose(4, 15), 0);
  int64_t waited = 1;
  while (length.choose(4, 15) == 0) ++waited;
  EXPECT_LT(waited, 32);
  length.timed(2, 1.1);
  EXPECT_GT(length.choose(4, 15), 0);
}

TEST(DraftLength, ProposesNothingBeforeAPlainStepNorBeyondTheLimit) {
  DraftLength length;
  EXPECT_EQ(length.choose(4, 15), 0);
  length.timed(1, 1);
  EXPECT_EQ(length.choose(4, 0), 0);
  EXPECT_GT(length.choose(4, 15), 0);
  decode([](int64_t) { return 1.; }, .9, 100, 5);
}

}  // namespace
}  // namespace fovea
