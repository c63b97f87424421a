#include "schedule/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace fovea {
namespace {

using enum RequestState;
using Tokens = std::vector<uint64_t>;
constexpr int64_t kBlock = 4;  // tokens
constexpr SchedulerLimits kWide{
    .max_num_seqs = 8, .max_num_batched_tokens = 64, .max_queue = 8, .slice_units = 10};

Tokens counting(uint64_t from, int64_t count) {
  Tokens tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), from);
  return tokens;
}

Request text(RequestId id, Tokens tokens, int64_t max_new_tokens = 4) {
  Request request;
  request.id = id;
  request.tokens = std::move(tokens);
  request.max_new_tokens = max_new_tokens;
  return request;
}

Request with_picture(RequestId id, Tokens tokens, uint64_t number, int64_t first_token, int64_t count,
                     bool encoded = false) {
  Request request = text(id, std::move(tokens));
  request.pictures.push_back({number, 25, first_token, count, encoded});
  return request;
}

const StepSegment* segment_of(const Step& step, RequestId id) {
  const auto found = std::ranges::find(step.segments, id, &StepSegment::request);
  return found == step.segments.end() ? nullptr : &*found;
}

// All is well; each segment that wants logits gets the token 1000 + its request.
StepResults well(const Step& step) {
  StepResults results;
  results.number = step.number;
  for (const StepSegment& segment : step.segments) {
    results.segments.emplace_back();
    if (segment.logits > 0) results.segments.back().appended = {1000 + segment.request};
  }
  return results;
}

// One step in which all is well.
Step step(Scheduler& scheduler) {
  const Step step = scheduler.next();
  scheduler.check();
  if (!step.empty()) scheduler.finished(well(step));
  scheduler.check();
  return step;
}

// Until nothing is left to do; returns how many steps it took.
int64_t finish_all(Scheduler& scheduler) {
  int64_t steps = 0;
  while (!step(scheduler).empty()) ++steps;
  EXPECT_EQ(scheduler.metrics().used_blocks, 0);
  return steps;
}

TEST(Scheduler, APromptIsComputedInChunksAndThenDecoded) {
  Scheduler scheduler({.max_num_batched_tokens = 6}, 8, kBlock);
  EXPECT_FALSE(scheduler.arrive(text(1, counting(0, 9), 3)));
  EXPECT_EQ(scheduler.state(1), queued);
  Step s = step(scheduler);
  ASSERT_EQ(s.segments.size(), 1u);
  EXPECT_EQ(s.segments[0].first, 0);
  EXPECT_EQ(s.segments[0].count, 6);
  EXPECT_EQ(s.segments[0].logits, 0);
  EXPECT_EQ(s.segments[0].table.size(), 2u);
  EXPECT_EQ(scheduler.state(1), prefill);
  s = step(scheduler);
  EXPECT_EQ(s.segments[0].first, 6);
  EXPECT_EQ(s.segments[0].count, 3);
  EXPECT_EQ(s.segments[0].logits, 1);
  EXPECT_EQ(s.segments[0].table_from, 2);
  EXPECT_EQ(s.segments[0].table.size(), 1u);
  EXPECT_EQ(scheduler.state(1), decode);
  s = step(scheduler);
  EXPECT_EQ(s.segments[0].first, 9);
  EXPECT_EQ(s.segments[0].count, 1);
  EXPECT_TRUE(s.segments[0].table.empty());
  EXPECT_EQ(scheduler.tokens(1).size(), 11u);
  step(scheduler);
  EXPECT_FALSE(scheduler.state(1));  // three tokens: done
  EXPECT_EQ(scheduler.metrics().in(done), 1);
  EXPECT_TRUE(scheduler.next().empty());
}

TEST(Scheduler, DecodeRowsGoFirstAndTheRestIsForPrompts) {
  Scheduler scheduler({.max_num_batched_tokens = 8}, 32, kBlock);
  scheduler.arrive(text(1, counting(0, 4)));
  step(scheduler);
  scheduler.arrive(text(2, counting(50, 5)));
  scheduler.arrive(text(3, counting(90, 20)));
  const Step s = step(scheduler);
  ASSERT_EQ(s.segments.size(), 3u);
  EXPECT_EQ(s.segments[0].request, 1u);
  EXPECT_EQ(s.segments[1].request, 2u);
  EXPECT_EQ(s.segments[1].count, 5);
  EXPECT_EQ(s.segments[2].request, 3u);
  EXPECT_EQ(s.segments[2].count, 2);
}

TEST(Scheduler, NeitherDecodesNorPromptsStarve) {
  Scheduler scheduler({.max_num_seqs = 8, .max_num_batched_tokens = 64}, 64, kBlock);
  for (RequestId id = 1; id <= 7; ++id) scheduler.arrive(text(id, counting(id * 100, 3), 40));
  step(scheduler);
  scheduler.set_step_tokens(4);
  scheduler.arrive(text(8, counting(5000, 6), 1));
  std::vector<int64_t> rows(9);
  for (int i = 0; i < 6; ++i) {
    const Step s = step(scheduler);
    for (const StepSegment& segment : s.segments) rows[segment.request] += segment.count;
    EXPECT_EQ(segment_of(s, 8)->count, 1);  // a quarter of the step
  }
  // Six steps with three rows for seven decodes.
  EXPECT_TRUE(std::all_of(rows.begin() + 1, rows.begin() + 8, [](int64_t n) { return n >= 2 && n <= 3; }));
}

TEST(Scheduler, RefusesWhatCanNeverFitAndWhatTheQueueCannotHold) {
  SchedulerLimits limits = kWide;
  limits.max_queue = 2;
  Scheduler scheduler(limits, 4, kBlock);
  EXPECT_EQ(scheduler.arrive(text(1, counting(0, 10), 8)), Refusal::never_fits);
  EXPECT_FALSE(scheduler.arrive(text(1, counting(0, 10), 7)));  // the last token is never computed
  EXPECT_FALSE(scheduler.arrive(text(2, counting(0, 1))));
  EXPECT_EQ(scheduler.arrive(text(3, counting(0, 1))), Refusal::queue_full);
  EXPECT_FALSE(scheduler.state(3));
  step(scheduler);
  EXPECT_FALSE(scheduler.arrive(text(3, counting(0, 1))));
  finish_all(scheduler);
}

TEST(Scheduler, AHitLeavesATokenToComputeInACopy) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(text(1, counting(0, 8)));
  const Step first = step(scheduler);
  scheduler.arrive(text(2, counting(0, 8)));
  const Step s = step(scheduler);
  const StepSegment& hit = *segment_of(s, 2);
  EXPECT_EQ(hit.first, 7);
  EXPECT_EQ(hit.count, 1);
  EXPECT_EQ(hit.logits, 1);
  EXPECT_EQ(hit.table[0], first.segments[0].table[0]);
  ASSERT_EQ(s.copies.size(), 1u);
  EXPECT_EQ(s.copies[0].from, first.segments[0].table[1]);
  EXPECT_EQ(s.copies[0].to, hit.table[1]);
  EXPECT_EQ(s.copies[0].tokens, 3);
  finish_all(scheduler);
}

TEST(Scheduler, WithoutABlockForTheCopyTheLastBlockIsComputedAgain) {
  Scheduler scheduler(kWide, 2, kBlock);
  scheduler.arrive(text(1, counting(0, 8), 1));
  step(scheduler);
  scheduler.arrive(text(2, counting(0, 8), 1));
  const Step s = step(scheduler);
  EXPECT_TRUE(s.copies.empty());
  EXPECT_EQ(s.segments[0].first, 4);
  EXPECT_EQ(s.segments[0].count, 4);
  EXPECT_FALSE(scheduler.state(2));
}

TEST(Scheduler, ASecondTurnGoesOnInTheLastBlock) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(text(1, counting(0, 5), 3));
  const Step first = step(scheduler);
  finish_all(scheduler);
  Tokens turn = counting(0, 5);
  turn.insert(turn.end(), {1001, 1001, 1001, 30, 31});
  scheduler.arrive(text(2, turn));
  const Step s = step(scheduler);
  EXPECT_EQ(s.segments[0].first, 7);  // the last token of the answer was never computed
  EXPECT_EQ(s.segments[0].table[1], first.segments[0].table[1]);
  EXPECT_TRUE(s.copies.empty());
}

TEST(Scheduler, AnswersOfOnePromptComputeItOnce) {
  Scheduler scheduler(kWide, 32, kBlock);
  for (RequestId id = 1; id <= 4; ++id) scheduler.arrive(text(id, counting(0, 10)));
  const Step first = step(scheduler);
  EXPECT_EQ(first.segments.size(), 1u);
  EXPECT_EQ(scheduler.state(4), twin);
  const Step s = step(scheduler);
  EXPECT_EQ(s.segments.size(), 4u);
  EXPECT_EQ(s.copies.size(), 3u);
  for (const StepSegment& segment : s.segments) EXPECT_EQ(segment.count, 1);
  finish_all(scheduler);
}

TEST(Scheduler, ATwinIsPassedByOthers) {
  Scheduler scheduler({.max_num_batched_tokens = 4}, 32, kBlock);
  scheduler.arrive(text(1, counting(0, 3), 1));
  scheduler.arrive(text(2, counting(0, 3), 1));
  scheduler.arrive(text(3, counting(70, 3), 1));
  const Step s = step(scheduler);
  EXPECT_TRUE(segment_of(s, 1));
  EXPECT_FALSE(segment_of(s, 2));
  EXPECT_TRUE(segment_of(s, 3));
}

TEST(Scheduler, WhenTheMakerGoesATwinTakesOver) {
  for (const bool fails : {false, true}) {
    Scheduler scheduler({.max_num_batched_tokens = 8}, 32, kBlock);
    for (RequestId id = 1; id <= 3; ++id) scheduler.arrive(text(id, counting(0, 20)));
    step(scheduler);
    const Step s = scheduler.next();
    EXPECT_EQ(s.segments.size(), 1u);
    StepResults results = well(s);
    if (fails) {
      results.segments[0].ok = false;
    } else {
      EXPECT_EQ(scheduler.cancel(1), Cancellation::after_step);
      results.segments[0].ok = true;
    }
    const auto endings = scheduler.finished(results);
    ASSERT_EQ(endings.size(), 1u);
    EXPECT_EQ(endings[0].state, fails ? failed : cancelled);
    const Step next = step(scheduler);
    ASSERT_EQ(next.segments.size(), 1u);
    EXPECT_EQ(next.segments[0].request, 2u);
    EXPECT_EQ(next.segments[0].first, fails ? 8 : 16);  // what was computed well is kept
    finish_all(scheduler);
  }
}

TEST(Scheduler, TheYoungestIsPreemptedAndComputedAgain) {
  Scheduler scheduler(kWide, 6, kBlock);
  scheduler.arrive(text(1, counting(0, 8), 9));
  scheduler.arrive(text(2, counting(50, 7), 9));
  step(scheduler);
  Step s = step(scheduler);
  while (s.preempted.empty()) s = step(scheduler);
  EXPECT_EQ(s.preempted, std::vector<RequestId>{2});
  EXPECT_EQ(scheduler.state(2), preempted);
  const auto known = static_cast<int64_t>(scheduler.tokens(2).size());
  EXPECT_GT(known, 7);
  while (!segment_of(s, 2)) s = step(scheduler);
  const StepSegment& again = *segment_of(s, 2);
  EXPECT_EQ(again.table_from, 0);
  EXPECT_EQ(again.first + again.count, known);  // the answer so far is part of the prompt
  EXPECT_GT(again.first, 0);                    // some of it was still to be found
  EXPECT_EQ(again.logits, 1);                   // for the next token only
  EXPECT_EQ(static_cast<int64_t>(scheduler.tokens(2).size()), known + 1);
  finish_all(scheduler);
  EXPECT_EQ(scheduler.metrics().in(done), 2);
}

TEST(Scheduler, OneThatComesBackForItsLastTokenCountsAmongTheRows) {
  Scheduler scheduler(kWide, 3, kBlock);
  scheduler.arrive(text(1, counting(0, 3), 3));
  scheduler.arrive(text(2, counting(50, 2), 6));
  step(scheduler);
  scheduler.propose(2, {60, 61, 62});  // for which it gets a second block
  step(scheduler);
  EXPECT_EQ(step(scheduler).preempted, std::vector<RequestId>{2});  // which the first one needs
  EXPECT_FALSE(scheduler.state(1));
  scheduler.arrive(text(3, counting(90, 5)));
  scheduler.set_step_tokens(2);
  const Step s = step(scheduler);
  ASSERT_EQ(s.segments.size(), 2u);
  EXPECT_EQ(s.segments[0].request, 2u);
  EXPECT_EQ(s.segments[0].first, 3);
  EXPECT_EQ(s.segments[0].logits, 1);
  EXPECT_EQ(s.segments[1].count, 1);
  finish_all(scheduler);
}

TEST(Scheduler, NobodyPassesOneThatLacksBlocks) {
  Scheduler scheduler(kWide, 6, kBlock);
  scheduler.arrive(text(1, counting(0, 12), 4));
  step(scheduler);
  scheduler.arrive(text(2, counting(50, 16), 4));
  scheduler.arrive(text(3, counting(90, 2), 1));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(step(scheduler).segments.size(), 1u);
  EXPECT_EQ(scheduler.state(2), std::optional(queued));
  const Step s = step(scheduler);
  EXPECT_TRUE(segment_of(s, 2));
  finish_all(scheduler);
}

TEST(Scheduler, AChunkEndsBeforeThePictureThatIsNotEncoded) {
  SchedulerLimits limits = kWide;
  limits.max_num_batched_tokens = 8;
  Scheduler scheduler(limits, 16, kBlock);
  scheduler.arrive(with_picture(1, counting(0, 20), 77, 10, 6));
  Step s = step(scheduler);  // the first chunk needs no picture
  EXPECT_EQ(s.segments[0].count, 8);
  ASSERT_TRUE(s.vision);
  EXPECT_EQ(s.vision->picture, 77u);
  EXPECT_EQ(s.vision->units, 10);
  s = step(scheduler);
  EXPECT_EQ(s.segments[0].count, 2);
  EXPECT_EQ(s.vision->first, 10);
  scheduler.set_slice_units(100);
  s = step(scheduler);
  EXPECT_TRUE(s.segments.empty());
  EXPECT_EQ(s.vision->units, 5);
  s = step(scheduler);
  EXPECT_FALSE(s.vision);
  EXPECT_EQ(s.segments[0].first, 10);
  EXPECT_EQ(s.segments[0].count, 8);
  finish_all(scheduler);
}

TEST(Scheduler, ARequestWaitsForItsPictureAndIsPassedByText) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(with_picture(1, counting(0, 8), 77, 2, 4));
  scheduler.arrive(text(2, counting(50, 3)));
  const Step s = step(scheduler);
  EXPECT_EQ(scheduler.state(1), vision);
  EXPECT_FALSE(segment_of(s, 1));
  EXPECT_TRUE(segment_of(s, 2));
  step(scheduler);
  step(scheduler);
  EXPECT_TRUE(segment_of(step(scheduler), 1));
  finish_all(scheduler);
}

TEST(Scheduler, APictureThatIsEncodedOrWhoseTokensAreKnownNeedsNoWork) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(with_picture(1, counting(0, 9), 77, 2, 5, true));
  EXPECT_FALSE(step(scheduler).vision);
  scheduler.arrive(with_picture(2, counting(0, 12), 77, 2, 5));  // not at hand any more
  const Step s = step(scheduler);
  EXPECT_FALSE(s.vision);
  EXPECT_EQ(segment_of(s, 2)->first, 9);
  finish_all(scheduler);
}

TEST(Scheduler, EqualPicturesAreEncodedOnceInAnyName) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(with_picture(1, counting(0, 8), 77, 2, 4));
  scheduler.arrive(with_picture(2, counting(50, 8), 77, 2, 4));
  step(scheduler);
  EXPECT_EQ(scheduler.cancel(1), Cancellation::now);
  const Step s = step(scheduler);
  EXPECT_EQ(s.vision->request, 2u);
  EXPECT_EQ(s.vision->first, 10);
  EXPECT_EQ(finish_all(scheduler), 1 + 4);
}

TEST(Scheduler, APictureThatFailsEndsTheRequestInWhoseNameItWas) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(with_picture(1, counting(0, 8), 77, 2, 4));
  scheduler.arrive(with_picture(2, counting(50, 8), 77, 2, 4));
  step(scheduler);
  const Step s = scheduler.next();
  StepResults results = well(s);
  results.vision_ok = false;
  const auto endings = scheduler.finished(results);
  ASSERT_EQ(endings.size(), 1u);
  EXPECT_EQ(endings[0].request, 1u);
  EXPECT_EQ(endings[0].state, failed);
  EXPECT_EQ(step(scheduler).vision->first, 0);
  finish_all(scheduler);
  EXPECT_EQ(scheduler.metrics().in(done), 1);
}

TEST(Scheduler, ForAFewRowsThatAreLeftNobodyTakesAPlaceWithoutItsPicture) {
  SchedulerLimits limits = kWide;
  limits.max_num_batched_tokens = 8;
  Scheduler scheduler(limits, 16, kBlock);
  scheduler.arrive(text(1, counting(50, 6)));
  scheduler.arrive(with_picture(2, counting(0, 8), 77, 3, 4));
  EXPECT_EQ(step(scheduler).segments.size(), 1u);
  EXPECT_EQ(scheduler.state(2), vision);
  finish_all(scheduler);
}

TEST(Scheduler, APictureThatSomebodyBringsMeanwhileIsEncoded) {
  for (const bool slice_fails : {false, true}) {
    Scheduler scheduler(kWide, 16, kBlock);
    scheduler.arrive(with_picture(1, counting(0, 8), 77, 2, 4));
    const Step s = scheduler.next();
    scheduler.arrive(with_picture(2, counting(50, 8), 77, 2, 4, true));
    StepResults results = well(s);
    results.vision_ok = !slice_fails;
    scheduler.finished(results);
    const Step next = step(scheduler);
    EXPECT_FALSE(next.vision);
    EXPECT_EQ(next.segments.size(), slice_fails ? 1u : 2u);
    finish_all(scheduler);
  }
}

TEST(Scheduler, AForgottenPictureIsEncodedAgainIfNeeded) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(with_picture(1, counting(0, 8), 77, 2, 4));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(step(scheduler).vision);
  scheduler.forget_picture(77);
  scheduler.forget_picture(78);  // nobody's
  EXPECT_EQ(step(scheduler).vision->first, 0);
  finish_all(scheduler);
}

TEST(Scheduler, CancelsAtAnyMoment) {
  Scheduler scheduler(kWide, 16, kBlock);
  EXPECT_EQ(scheduler.cancel(1), Cancellation::unknown);
  scheduler.arrive(text(1, counting(0, 8)));
  EXPECT_EQ(scheduler.cancel(1), Cancellation::now);
  scheduler.arrive(text(1, counting(0, 8)));
  step(scheduler);
  EXPECT_EQ(scheduler.cancel(1), Cancellation::now);
  EXPECT_EQ(scheduler.metrics().used_blocks, 0);
  scheduler.arrive(with_picture(2, counting(20, 8), 77, 0, 8));
  const Step s = scheduler.next();
  EXPECT_EQ(scheduler.cancel(2), Cancellation::after_step);  // its picture is being encoded
  EXPECT_EQ(scheduler.cancel(2), Cancellation::after_step);
  EXPECT_EQ(scheduler.finished(well(s))[0].state, cancelled);
  EXPECT_EQ(scheduler.metrics().in(cancelled), 3);
  EXPECT_TRUE(scheduler.next().empty());
}

TEST(Scheduler, OnlyTheSegmentThatFailsEndsItsRequest) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(text(1, counting(0, 8)));
  scheduler.arrive(text(2, counting(50, 8)));
  const Step s = scheduler.next();
  StepResults results = well(s);
  results.segments[0].ok = false;
  const auto endings = scheduler.finished(results);
  ASSERT_EQ(endings.size(), 1u);
  EXPECT_EQ(endings[0].request, 1u);
  EXPECT_EQ(scheduler.state(2), decode);
  scheduler.arrive(text(3, counting(0, 8)));
  EXPECT_EQ(segment_of(step(scheduler), 3)->first, 0);  // nothing of the failed one is found
  finish_all(scheduler);
}

TEST(Scheduler, DraftsAreComputedAndWhatWasNotTakenIsRolledBack) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(text(1, counting(0, 3), 9));
  step(scheduler);
  scheduler.propose(1, {60, 61, 62});
  const Step s = scheduler.next();
  EXPECT_EQ(s.segments[0].count, 4);
  EXPECT_EQ(s.segments[0].logits, 4);
  EXPECT_EQ(s.segments[0].table_from + static_cast<int64_t>(s.segments[0].table.size()), 2);
  StepResults results = well(s);
  results.segments[0].appended = {60, 99};  // one of three
  EXPECT_TRUE(scheduler.finished(results).empty());
  Tokens tokens = counting(0, 3);
  tokens.insert(tokens.end(), {1001, 60, 99});
  EXPECT_TRUE(std::ranges::equal(scheduler.tokens(1), tokens));
  const Step next = step(scheduler);
  EXPECT_EQ(next.segments[0].first, 5);  // behind 1001 and 60
  EXPECT_EQ(next.segments[0].count, 1);
  scheduler.propose(1, counting(0, 50));
  EXPECT_EQ(scheduler.next().segments[0].count, 5);  // so many tokens may still come
}

TEST(Scheduler, EqualAnswersShareTheirBlocks) {
  Scheduler scheduler(kWide, 32, kBlock);
  for (RequestId id = 1; id <= 2; ++id) scheduler.arrive(text(id, counting(0, 5), 9));
  for (int i = 0; i < 9; ++i) {
    const Step s = scheduler.next();
    StepResults results = well(s);
    for (SegmentResult& result : results.segments) result.appended = {500};
    scheduler.finished(results);
    scheduler.check();
  }
  // 5 + 8 tokens each, of which 12 are in blocks that are equal; the later one adopted those of the earlier.
  EXPECT_EQ(scheduler.tokens(2).size(), 13u);
  EXPECT_EQ(scheduler.metrics().used_blocks, 3);
}

TEST(Scheduler, CountsWhatIsThere) {
  SchedulerLimits limits = kWide;
  limits.max_num_seqs = 1;
  Scheduler scheduler(limits, 16, kBlock);
  scheduler.arrive(text(1, counting(0, 6)));
  scheduler.arrive(text(2, counting(50, 7)));
  step(scheduler);
  const SchedulerMetrics metrics = scheduler.metrics();
  EXPECT_EQ(metrics.in(decode), 1);
  EXPECT_EQ(metrics.in(queued), 1);
  EXPECT_EQ(metrics.waiting_tokens, 1 + 7);
  EXPECT_EQ(metrics.used_blocks, 2);
  EXPECT_EQ(metrics.free_blocks, 14);
  finish_all(scheduler);
}

// Two steps under way share the decodes; each request is in one of them, whichever is finished first.
TEST(Scheduler, StepsUnderWayAreForDifferentRequests) {
  Scheduler scheduler(kWide, 32, kBlock);
  scheduler.set_steps_at_once(2);
  for (RequestId id = 1; id <= 3; ++id) scheduler.arrive(text(id, counting(id * 100, 3), 8));
  step(scheduler);  // three prompts
  for (int i = 0; i < 3; ++i) {
    const Step first = scheduler.next(), second = scheduler.next();
    EXPECT_EQ(first.segments.size(), 2u);
    ASSERT_EQ(second.segments.size(), 1u);
    EXPECT_EQ(segment_of(first, second.segments[0].request), nullptr);
    EXPECT_TRUE(scheduler.next().empty());  // all are at work
    EXPECT_EQ(scheduler.cancel(second.segments[0].request + 100), Cancellation::unknown);
    scheduler.check();
    scheduler.finished(well(i % 2 == 0 ? second : first));
    scheduler.check();
    scheduler.finished(well(i % 2 == 0 ? first : second));
  }
  for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(scheduler.tokens(id).size(), 7u);
}

// Blocks that a step under way writes into are nobody's to take.
TEST(Scheduler, WhoIsInAStepIsNotPreempted) {
  Scheduler scheduler(kWide, 4, kBlock);
  scheduler.set_steps_at_once(2);
  scheduler.arrive(text(1, counting(100, 4), 8));
  scheduler.arrive(text(2, counting(200, 4), 8));
  step(scheduler);  // two prompts: a block each, full
  const Step first = scheduler.next(), second = scheduler.next();
  EXPECT_TRUE(first.preempted.empty() && second.preempted.empty());
  ASSERT_EQ(first.segments.size() + second.segments.size(), 2u);
  scheduler.finished(well(first));
  scheduler.finished(well(second));
  while (scheduler.state(2) != preempted && scheduler.state(1)) {
    const Step next = scheduler.next();
    if (segment_of(next, 2) == nullptr) {
      for (const RequestId id : next.preempted) EXPECT_EQ(id, 2u);
    } else {
      const Step other = scheduler.next();  // 1 may need a block: it waits for 2's step
      EXPECT_TRUE(other.preempted.empty());
      if (!other.empty()) scheduler.finished(well(other));
    }
    scheduler.check();
    scheduler.finished(well(next));
  }
  EXPECT_EQ(scheduler.state(2), preempted);
  finish_all(scheduler);
  EXPECT_EQ(scheduler.metrics().in(done), 2);
}

TEST(SchedulerDeathTest, NothingIsFinishedThatIsNotUnderWay) {
  Scheduler scheduler(kWide, 16, kBlock);
  scheduler.arrive(text(1, counting(0, 6)));
  EXPECT_DEATH(scheduler.arrive(text(1, counting(0, 6))), "check failed");
  EXPECT_DEATH(scheduler.finished({}), "check failed");
  const Step step = scheduler.next();
  EXPECT_TRUE(scheduler.next().empty());
  EXPECT_DEATH(scheduler.finished({}), "check failed");
  scheduler.finished(well(step));
  EXPECT_DEATH(scheduler.finished(well(step)), "check failed");
}

}  // namespace
}  // namespace fovea
