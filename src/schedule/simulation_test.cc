// Many requests go through a scheduler whose steps are carried out by a model of which every number depends
// on the whole sequence: each answer must be the one that the request would get alone, whatever happens.
// Several steps may be under way: then they are carried out in their order, at any time before they are
// finished, and finished in any.
#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <set>
#include <unordered_map>

#include "schedule/scheduler.h"
#include "schedule/simulated_load_testing.h"
#include "schedule/simulated_model_testing.h"

namespace fovea::testing {
namespace {

// How often what must be survived has happened.
struct Tally {
  int64_t requests = 0, wrong_cells = 0, wrong_answers = 0, late = 0;
  int64_t hits = 0, evictions = 0, copies = 0, preemptions = 0, twins = 0, replaced_entries = 0;
  int64_t queue_full = 0, never_fits = 0, failed_segments = 0, failed_slices = 0, forgotten_pictures = 0;
  int64_t slices = 0, slices_continued_by_others = 0, pictures_brought = 0;
  int64_t drafts_taken = 0, drafts_rolled_back = 0;
  int64_t steps_beside_others = 0, finished_out_of_order = 0, preempted_beside_others = 0;
  int64_t cancelled_in_step = 0, cancelled_in[kRequestStates] = {}, ended_in[kRequestStates] = {};
  double longest_wait = 0;  // as a part of the fair bound
};

class Simulation {
 public:
  Simulation(uint64_t seed, bool tells_pictures, BlockLedger::Hash hash, int64_t steps_at_once, Tally& tally)
      : dice_(seed),
        steps_at_once_(steps_at_once),
        copies_early_(dice_.one_in(2)),
        tight_(dice_.one_in(2)),
        load_(dice_.bits(), tight_ ? 2 : 6, tells_pictures),
        limits_{.max_num_seqs = dice_.between(2, 8),
                .max_num_batched_tokens = dice_.between(2, 200),
                .max_queue = dice_.between(5, 40),
                .slice_units = dice_.between(3, 30)},
        capacity_(tight_ ? dice_.between(6, 12) : dice_.between(10, 30)),
        least_rows_(limits_.max_num_batched_tokens),
        least_units_(limits_.slice_units),
        rows_(least_rows_),
        units_(least_units_),
        scheduler_(limits_, capacity_, kBlockTokens, hash),
        model_(capacity_),
        tally_(tally) {
    scheduler_.set_steps_at_once(steps_at_once_);
  }

  void run(int64_t requests) {
    for (int64_t drawn = 0; drawn < requests || !live_.empty() || !under_way_.empty(); ++step_) {
      if (dice_.one_in(200)) busy_ = !busy_;
      if (dice_.one_in(busy_ ? 5 : 30)) {
        for (int64_t burst = dice_.between(1, 3); burst > 0 && drawn < requests; --burst, ++drawn) arrive();
      }
      adapt();
      propose();
      if (dice_.one_in(20)) cancel_in(kCancellable[dice_.below(std::size(kCancellable))]);
      while (begin_step()) {
      }
      if (!under_way_.empty()) finish_step();
      if (step_ % 64 == 0) scheduler_.check();
    }
    settle(requests);
  }

 private:
  static constexpr RequestState kCancellable[] = {RequestState::queued,  RequestState::vision,
                                                  RequestState::twin,    RequestState::preempted,
                                                  RequestState::prefill, RequestState::decode};
  struct Live {
    SimulatedRequest drawn;
    std::vector<uint64_t> expected, drafts;
    size_t prompt = 0;
    int64_t arrived = 0, steps_allowed = 0, cost = 0;
    bool was_twin = false;
  };
  struct UnderWay {
    Step step;
    StepResults results;
    bool carried_out = false;
    int64_t passed = 0;  // so often another one that was begun later was finished before it
  };
  struct Encoding {
    int64_t units = 0, done = 0, owners = 0;
    RequestId by = 0;
  };

  void arrive() {
    Live live;
    live.drawn = load_.draw();
    Request& request = live.drawn.request;
    for (PromptPicture& picture : request.pictures) {
      const Encoding& encoding = pictures_[picture.number];
      picture.encoded = encoding.units > 0 && encoding.done == encoding.units;
    }
    const auto refusal = scheduler_.arrive(request);
    EXPECT_LE(scheduler_.metrics().in(RequestState::queued), limits_.max_queue + limits_.max_num_seqs);
    if (refusal) {
      ++(*refusal == Refusal::queue_full ? tally_.queue_full : tally_.never_fits);
      return;
    }
    for (const PromptPicture& picture : request.pictures) {
      Encoding& encoding = pictures_[picture.number];
      encoding.units = picture.units;
      ++encoding.owners;
      tally_.pictures_brought += picture.encoded;
    }
    live.expected = answer_alone(live.drawn.sequence, request.max_new_tokens);
    live.prompt = request.tokens.size();
    live.arrived = step_;
    live.cost = cost(request);
    cost_of_live_ += live.cost;
    dearest_ = std::max(dearest_, live.cost);
    // Those before it, and those that took their places while it waited for a picture or a twin.
    live.steps_allowed = cost_of_live_ + limits_.max_num_seqs * dearest_;
    // Among several, a step is finished behind the others and three that pass it.
    if (steps_at_once_ > 1) live.steps_allowed *= 3 + steps_at_once_;
    live_.emplace(request.id, std::move(live));
  }

  // In steps, if it is the oldest: of each step a quarter is kept for prompts, and decodes take turns.
  int64_t cost(const Request& request) const {
    const auto ceil = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
    const int64_t kept = std::max<int64_t>(1, least_rows_ / 4);
    const auto rows = static_cast<int64_t>(request.tokens.size()) + request.max_new_tokens;
    int64_t steps =
        ceil(rows, kept) + request.max_new_tokens * ceil(limits_.max_num_seqs, least_rows_ - kept);
    for (const PromptPicture& picture : request.pictures) steps += ceil(picture.units, least_units_) + 3;
    return steps;
  }

  void adapt() {
    if (dice_.one_in(50)) scheduler_.set_step_tokens(rows_ = least_rows_ + dice_.below(100));
    if (dice_.one_in(50)) scheduler_.set_slice_units(units_ = least_units_ + dice_.below(20));
    if (pictures_.empty() || !dice_.one_in(200)) return;
    const auto forgotten = std::next(pictures_.begin(), dice_.below(static_cast<int64_t>(pictures_.size())));
    for (const UnderWay& other : under_way_) {
      if (other.step.vision && other.step.vision->picture == forgotten->first) return;
    }
    tally_.forgotten_pictures += forgotten->second.done > 0;
    forgotten->second.done = 0;
    scheduler_.forget_picture(forgotten->first);
  }

  // What will be sampled, with errors.
  void propose() {
    if (!dice_.one_in(4)) return;
    for (auto& [id, live] : live_) {
      if (!dice_.one_in(3) || scheduler_.state(id) != RequestState::decode || in_step_.contains(id)) continue;
      const size_t generated = live.drawn.sequence.tokens.size() - live.prompt;
      live.drafts.assign(live.expected.begin() + static_cast<std::ptrdiff_t>(generated), live.expected.end());
      live.drafts.resize(static_cast<size_t>(dice_.between(1, 5)));
      for (uint64_t& draft : live.drafts) draft += dice_.one_in(5);
      scheduler_.propose(id, live.drafts);
    }
  }

  void cancel_in(RequestState state) {
    for (const auto& [id, live] : live_) {
      if (scheduler_.state(id) != state || in_step_.contains(id)) continue;
      if (state == RequestState::queued && !dice_.one_in(8)) return;
      EXPECT_EQ(scheduler_.cancel(id), Cancellation::now);
      ++tally_.cancelled_in[static_cast<int>(state)];
      forget(id, RequestState::cancelled);
      return;
    }
  }

  bool begin_step() {
    if (static_cast<int64_t>(under_way_.size()) == steps_at_once_) return false;
    Step next = scheduler_.next();
    EXPECT_TRUE(!under_way_.empty() || next.empty() == live_.empty());
    if (next.empty()) return false;
    tally_.steps_beside_others += !under_way_.empty();
    tally_.preempted_beside_others += !under_way_.empty() && !next.preempted.empty();
    UnderWay& begun = under_way_.emplace_back();
    begun.step = std::move(next);
    const Step& step = begun.step;
    expect_within_limits(step);
    occupy(step);
    for (const RequestId id : step.preempted) {
      for (const UnderWay& other : under_way_) EXPECT_TRUE(&other == &begun || !works_for(other.step, id));
      model_.forget(id);
    }
    tally_.preemptions += static_cast<int64_t>(step.preempted.size());
    if (copies_early_) prepare(step);
    count_twins();
    if (dice_.one_in(60) && !step.segments.empty()) cancel_in_step(any_of(step.segments).request);
    if (dice_.one_in(12) && step.vision) cancel_in_step(step.vision->request);
    if (busy_ && dice_.one_in(10)) cancel_waiting_meanwhile();
    return true;
  }

  // Nobody is in two steps, and pictures that rows need are there.
  void occupy(const Step& step) {
    std::set<RequestId> ids;
    for (const StepSegment& segment : step.segments) {
      EXPECT_TRUE(ids.insert(segment.request).second);
      const Live& live = live_.at(segment.request);
      for (const PromptPicture& picture : live.drawn.request.pictures) {
        const bool needed = picture.first_token < segment.first + segment.count &&
                            picture.first_token + picture.tokens > segment.first;
        EXPECT_TRUE(!needed || pictures_.at(picture.number).done == picture.units);
      }
    }
    if (step.vision) {
      ids.insert(step.vision->request);
      EXPECT_TRUE(step.vision->units > 0 && step.vision->units <= units_);
    }
    for (const RequestId id : ids) EXPECT_TRUE(in_step_.insert(id).second);
  }

  // Some step that is under way; what came before it has been carried out, too.
  void finish_step() {
    auto chosen = under_way_.begin();
    if (chosen->passed < 3 && dice_.one_in(3)) {
      std::advance(chosen, dice_.below(static_cast<int64_t>(under_way_.size())));
    }
    for (auto other = under_way_.begin(); other != chosen; ++other) ++other->passed;
    tally_.finished_out_of_order += chosen != under_way_.begin();
    for (auto other = under_way_.begin();; ++other) {
      if (!other->carried_out) carry_out(*other);
      if (other == chosen) break;
    }
    for (const StepSegment& segment : chosen->step.segments) in_step_.erase(segment.request);
    if (chosen->step.vision) in_step_.erase(chosen->step.vision->request);
    for (const Ending& ending : scheduler_.finished(chosen->results)) {
      ++tally_.ended_in[static_cast<int>(ending.state)];
      forget(ending.request, ending.state);
    }
    under_way_.erase(chosen);
  }

  // Rank by rank a step's copies are made before the rows of the step before, or after.
  void carry_out(UnderWay& step) {
    step.carried_out = true;
    step.results.number = step.step.number;
    if (!copies_early_) prepare(step.step);
    step.results.segments = compute(step.step);
    if (step.step.vision) step.results.vision_ok = encode(*step.step.vision);
  }

  void expect_within_limits(const Step& step) const {
    int64_t rows = 0;
    bool prompts = false;
    for (const StepSegment& segment : step.segments) {
      rows += segment.count;
      const bool decodes = scheduler_.state(segment.request) == RequestState::decode;
      EXPECT_FALSE(decodes && prompts);
      prompts |= !decodes;
    }
    EXPECT_LE(rows, rows_);
    EXPECT_LE(static_cast<int64_t>(step.segments.size()), limits_.max_num_seqs);
  }

  void count_twins() {
    if (step_ % 4 != 0) return;
    for (auto& [id, live] : live_) {
      if (live.was_twin || scheduler_.state(id) != RequestState::twin) continue;
      live.was_twin = true;
      ++tally_.twins;
    }
  }

  void cancel_in_step(RequestId id) {
    EXPECT_EQ(scheduler_.cancel(id), Cancellation::after_step);
    ++tally_.cancelled_in_step;
  }

  const StepSegment& any_of(const std::vector<StepSegment>& segments) {
    return segments[static_cast<size_t>(dice_.below(static_cast<int64_t>(segments.size())))];
  }

  // While steps are under way, one that none works for.
  void cancel_waiting_meanwhile() {
    for (const auto& [id, live] : live_) {
      if (in_step_.contains(id) || !dice_.one_in(10)) continue;
      ++tally_.cancelled_in[static_cast<int>(*scheduler_.state(id))];
      EXPECT_EQ(scheduler_.cancel(id), Cancellation::now);
      forget(id, RequestState::cancelled);
      return;
    }
  }

  static bool works_for(const Step& step, RequestId id) {
    return (step.vision && step.vision->request == id) ||
           std::ranges::any_of(step.segments, [&](const StepSegment& s) { return s.request == id; });
  }

  void prepare(const Step& step) {
    for (const BlockCopy& copy : step.copies) model_.copy(copy);
    for (const StepSegment& segment : step.segments) {
      model_.prepare(segment, live_.at(segment.request).drawn.sequence);
    }
  }

  std::vector<SegmentResult> compute(const Step& step) {
    std::vector<SegmentResult> results(step.segments.size());
    for (size_t i = 0; i < results.size(); ++i) {
      const Live& live = live_.at(step.segments[i].request);
      results[i].ok = !dice_.one_in(300);
      tally_.failed_segments += !results[i].ok;
      model_.compute(step.segments[i], live.drawn.sequence, live.drafts, !results[i].ok);
    }
    for (size_t i = 0; i < results.size(); ++i) {
      if (!results[i].ok) continue;
      Live& live = live_.at(step.segments[i].request);
      model_.expect_rows(step.segments[i], live.drawn.sequence);
      sample(step.segments[i], live, results[i]);
    }
    return results;
  }

  void sample(const StepSegment& segment, Live& live, SegmentResult& result) {
    SimulatedSequence& sequence = live.drawn.sequence;
    for (int64_t row = 0; row < segment.logits; ++row) {
      const uint64_t token = sampled_behind(sequence.states.back(), sequence.seed);
      result.ended = token == kEndToken;
      if (!result.ended || keeps_end_token(sequence)) {
        sequence.append(token);
        result.appended.push_back(token);
      }
      if (result.ended || row + 1 == segment.logits) break;
      const bool taken = live.drafts[static_cast<size_t>(row)] == token;
      ++(taken ? tally_.drafts_taken : tally_.drafts_rolled_back);
      if (!taken) break;
    }
  }

  bool encode(const VisionSlice& slice) {
    Encoding& encoding = pictures_.at(slice.picture);
    EXPECT_EQ(slice.first, encoding.done);
    EXPECT_LE(slice.first + slice.units, encoding.units);
    ++tally_.slices;
    tally_.slices_continued_by_others += slice.first > 0 && encoding.by != slice.request;
    encoding.by = slice.request;
    const bool ok = !dice_.one_in(50);
    tally_.failed_slices += !ok;
    encoding.done = ok ? encoding.done + slice.units : 0;
    return ok;
  }

  void forget(RequestId id, RequestState state) {
    const Live& live = live_.at(id);
    const auto& tokens = live.drawn.sequence.tokens;
    const std::vector<uint64_t> answer(tokens.begin() + static_cast<std::ptrdiff_t>(live.prompt),
                                       tokens.end());
    const bool whole = state != RequestState::done || answer.size() == live.expected.size();
    tally_.wrong_answers += !whole || !std::equal(answer.begin(), answer.end(), live.expected.begin());
    const int64_t waited = step_ - live.arrived;
    tally_.late += waited > live.steps_allowed;
    tally_.longest_wait =
        std::max(tally_.longest_wait, static_cast<double>(waited) / static_cast<double>(live.steps_allowed));
    for (const PromptPicture& picture : live.drawn.request.pictures) {
      const auto encoding = pictures_.find(picture.number);
      if (--encoding->second.owners > 0) continue;
      if (encoding->second.done < encoding->second.units || dice_.one_in(2)) pictures_.erase(encoding);
    }
    if (state == RequestState::done && dice_.one_in(4)) load_.remember(live.drawn);
    cost_of_live_ -= live.cost;
    model_.forget(id);
    live_.erase(id);
  }

  void settle(int64_t requests) {
    scheduler_.check();
    const SchedulerMetrics metrics = scheduler_.metrics();
    EXPECT_EQ(metrics.used_blocks, 0);
    EXPECT_EQ(metrics.free_blocks + metrics.cached_blocks, capacity_);
    EXPECT_EQ(metrics.waiting_tokens, 0);
    tally_.requests += requests;
    tally_.wrong_cells += model_.wrong_cells();
    tally_.replaced_entries += model_.replaced_entries();
    tally_.hits += metrics.blocks.hits;
    tally_.evictions += metrics.blocks.evictions;
    tally_.copies += metrics.blocks.copies;
  }

  Dice dice_;
  int64_t steps_at_once_;
  bool copies_early_;
  bool tight_;  // few blocks, long answers
  SimulatedLoad load_;
  SchedulerLimits limits_;
  int64_t capacity_, least_rows_, least_units_, rows_, units_;
  Scheduler scheduler_;
  SimulatedModel model_;
  Tally& tally_;
  std::map<RequestId, Live> live_;
  std::list<UnderWay> under_way_;          // in the order of their beginning
  std::set<RequestId> in_step_;            // whom they work for
  std::map<uint64_t, Encoding> pictures_;  // that somebody has, and the vision cache
  int64_t step_ = 0, cost_of_live_ = 0, dearest_ = 0;
  bool busy_ = true;
};

Tally simulate(int64_t episodes, int64_t requests, bool tells_pictures,
               BlockLedger::Hash hash = BlockLedger::hash_of, int64_t most_steps_at_once = 1) {
  Tally tally;
  for (int64_t episode = 0; episode < episodes; ++episode) {
    const int64_t steps_at_once = most_steps_at_once == 1 ? 1 : 2 + episode % (most_steps_at_once - 1);
    Simulation(static_cast<uint64_t>(episode), tells_pictures, hash, steps_at_once, tally).run(requests);
  }
  return tally;
}

// What must be survived, and how often it has happened.
std::map<std::string, int64_t> happened(const Tally& tally) {
  return {
      {"prefix hits", tally.hits},
      {"evictions", tally.evictions},
      {"copies on write", tally.copies},
      {"preemptions", tally.preemptions},
      {"twins", tally.twins},
      {"adopted blocks", tally.replaced_entries},
      {"refused: queue full", tally.queue_full},
      {"refused: never fits", tally.never_fits},
      {"failed segments", tally.failed_segments},
      {"failed slices", tally.failed_slices},
      {"forgotten pictures", tally.forgotten_pictures},
      {"slices", tally.slices},
      {"slices continued in another name", tally.slices_continued_by_others},
      {"pictures brought encoded", tally.pictures_brought},
      {"drafts taken", tally.drafts_taken},
      {"drafts rolled back", tally.drafts_rolled_back},
      {"cancelled when queued", tally.cancelled_in[static_cast<int>(RequestState::queued)]},
      {"cancelled in vision", tally.cancelled_in[static_cast<int>(RequestState::vision)]},
      {"cancelled as twins", tally.cancelled_in[static_cast<int>(RequestState::twin)]},
      {"cancelled when preempted", tally.cancelled_in[static_cast<int>(RequestState::preempted)]},
      {"cancelled in prefill", tally.cancelled_in[static_cast<int>(RequestState::prefill)]},
      {"cancelled in decode", tally.cancelled_in[static_cast<int>(RequestState::decode)]},
      {"cancelled in a step", tally.cancelled_in_step},
      {"done", tally.ended_in[static_cast<int>(RequestState::done)]},
      {"failed", tally.ended_in[static_cast<int>(RequestState::failed)]},
      {"cancelled with a step", tally.ended_in[static_cast<int>(RequestState::cancelled)]},
  };
}

void expect_all_happened(const Tally& tally, int64_t least) {
  EXPECT_EQ(tally.wrong_cells, 0);
  EXPECT_EQ(tally.wrong_answers, 0);
  EXPECT_EQ(tally.late, 0);
  for (const auto& [what, times] : happened(tally)) {
    EXPECT_GE(times, least) << what;
    ::testing::Test::RecordProperty(what, std::to_string(times));
  }
  ::testing::Test::RecordProperty("longest wait", std::to_string(tally.longest_wait));
}

TEST(Simulation, AnswersDoNotDependOnTheSchedule) {
  const Tally tally = simulate(50, 2000, true);
  EXPECT_EQ(tally.requests, 100000);
  expect_all_happened(tally, 50);
}

// As over a pipeline of ranks.
TEST(Simulation, NorOnHowManyStepsAreUnderWay) {
  const Tally tally = simulate(50, 2000, true, BlockLedger::hash_of, 4);
  expect_all_happened(tally, 20);
  EXPECT_GE(tally.steps_beside_others, 10000);
  EXPECT_GE(tally.finished_out_of_order, 1000);
  EXPECT_GE(tally.preempted_beside_others, 20);
}

TEST(Simulation, EqualHashesChangeNothing) {
  const auto hash = [](const ChainEnd& after, std::span<const uint64_t> tokens) {
    return BlockLedger::hash_of(after, tokens) % 2;
  };
  const Tally tally = simulate(4, 1000, true, hash);
  EXPECT_EQ(tally.wrong_cells, 0);
  EXPECT_EQ(tally.wrong_answers, 0);
  EXPECT_GE(tally.hits, 50);
}

// The positive control: if the tokens do not say which picture they stand for, one picture's keys are served
// for another's, and the check of contents sees it.
TEST(Simulation, WithoutThePicturesNumberContentsAreWrong) {
  EXPECT_GE(simulate(5, 2000, false).wrong_cells, 50);
}

}  // namespace
}  // namespace fovea::testing
