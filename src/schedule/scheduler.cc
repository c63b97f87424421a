#include "schedule/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "schedule/live_request.h"

namespace fovea {
namespace {

int64_t blocks_for(int64_t tokens, int64_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

void check_request(const Request& request) {
  FOVEA_CHECK(!request.tokens.empty() && request.max_new_tokens > 0);
  int64_t behind = 0;
  for (const PromptPicture& picture : request.pictures) {
    FOVEA_CHECK(picture.first_token >= behind && picture.tokens > 0 && picture.units >= 0);
    behind = picture.first_token + picture.tokens;
  }
  FOVEA_CHECK(behind <= static_cast<int64_t>(request.tokens.size()));
}

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits, int64_t block_capacity, int64_t block_tokens,
                     BlockLedger::Hash hash)
    : limits_(limits), ledger_(block_capacity, block_tokens, hash) {
  FOVEA_CHECK(limits.max_num_seqs > 0 && limits.max_queue > 0);
  set_step_tokens(limits.max_num_batched_tokens);
  set_slice_units(limits.slice_units);
}

Scheduler::~Scheduler() = default;

// The token that is sampled last is never computed.
bool Scheduler::never_fits(int64_t prompt_tokens, int64_t max_new_tokens) const {
  return blocks_for(prompt_tokens + max_new_tokens - 1, ledger_.block_tokens()) > ledger_.capacity();
}

std::optional<Refusal> Scheduler::arrive(Request request) {
  check_request(request);
  FOVEA_CHECK(!live_.contains(request.id));
  if (never_fits(static_cast<int64_t>(request.tokens.size()), request.max_new_tokens)) {
    return Refusal::never_fits;
  }
  if (static_cast<int64_t>(waiting_.size()) >= limits_.max_queue) return Refusal::queue_full;
  vision_.add(request.pictures);
  const RequestId id = request.id;
  auto live = std::make_unique<LiveRequest>(std::move(request), arrivals_++);
  waiting_[live->arrival()] = live.get();
  live_[id] = std::move(live);
  return std::nullopt;
}

Cancellation Scheduler::cancel(RequestId id) {
  LiveRequest* live = find(id);
  if (!live) return Cancellation::unknown;
  if (live->in_step > 0) {
    live->cancel_wanted = true;
    return Cancellation::after_step;
  }
  end(*live, RequestState::cancelled);
  return Cancellation::now;
}

void Scheduler::set_step_tokens(int64_t rows) {
  FOVEA_CHECK(rows >= 2);
  limits_.max_num_batched_tokens = rows;
}

void Scheduler::set_slice_units(int64_t units) {
  FOVEA_CHECK(units >= 1);
  limits_.slice_units = units;
}

void Scheduler::forget_picture(uint64_t number) {
  FOVEA_CHECK(!is_encoded_now(number));
  vision_.forget(number);
}

void Scheduler::set_steps_at_once(int64_t steps) {
  FOVEA_CHECK(steps >= 1);
  steps_at_once_ = steps;
}

void Scheduler::propose(RequestId id, std::vector<uint64_t> drafts) {
  LiveRequest* live = find(id);
  if (live && live->decodes() && live->in_step == 0) live->drafts = std::move(drafts);
}

LiveRequest* Scheduler::find(RequestId id) const {
  const auto found = live_.find(id);
  return found == live_.end() ? nullptr : found->second.get();
}

int64_t Scheduler::room(const LiveRequest& live) const {
  return static_cast<int64_t>(live.table.size()) * ledger_.block_tokens() - live.computed;
}

// ---- the next step ----

struct Scheduler::Plan {
  Step step;
  std::vector<StepSegment> chunks;  // of prompts
  int64_t rows_left = 0;            // besides one row for each decode that has its turn
  int64_t kept_for_prompts = 0;
};

Step Scheduler::next() {
  Plan plan;
  plan.step.number = steps_ + 1;
  share_out(plan);
  place_running(plan);
  admit_waiting(plan);
  plan.step.vision = choose_slice();
  if (plan.step.vision) find(plan.step.vision->request)->in_step = plan.step.number;
  std::ranges::move(plan.chunks, std::back_inserter(plan.step.segments));
  if (!plan.step.empty()) under_way_[++steps_] = plan.step;
  return std::move(plan.step);
}

// Which decodes have their turn: those that wait longest for it; of several steps that are under way at once
// each has its share of them.
void Scheduler::share_out(Plan& plan) {
  std::vector<LiveRequest*> decoding;
  bool prompts = !waiting_.empty() && static_cast<int64_t>(running_.size()) < limits_.max_num_seqs;
  int64_t decodes = 0;
  for (LiveRequest* live : running_) {
    decodes += live->decodes() ? 1 : 0;
    live->has_turn = live->decodes() && live->in_step == 0;
    if (live->has_turn) {
      decoding.push_back(live);
    } else if (live->in_step == 0) {
      prompts = true;
    }
  }
  const int64_t rows = limits_.max_num_batched_tokens;
  plan.kept_for_prompts = prompts ? std::max<int64_t>(1, rows / 4) : 0;
  const int64_t share = (decodes + steps_at_once_ - 1) / steps_at_once_;
  const auto most = static_cast<size_t>(std::min(share, rows - plan.kept_for_prompts));
  if (decoding.size() > most) {
    std::ranges::stable_sort(decoding, {}, &LiveRequest::last_served);
    for (LiveRequest* live : std::span(decoding).subspan(most)) live->has_turn = false;
  }
  plan.rows_left = rows - static_cast<int64_t>(std::min(decoding.size(), most));
}

// In order of arrival, so that whoever is preempted for another has no rows in this step yet. A turn for
// which there is no block goes to another decode: one who waits for the blocks of those before it must not
// keep them from going on.
void Scheduler::place_running(Plan& plan) {
  int64_t turns_left = 0;
  for (size_t i = 0; i < running_.size(); ++i) {
    LiveRequest& live = *running_[i];
    if (live.in_step > 0 || place_next_rows(plan, live)) continue;
    turns_left += std::exchange(live.has_turn, false) ? 1 : 0;
  }
  for (size_t i = 0; i < running_.size() && turns_left > 0; ++i) {
    LiveRequest& live = *running_[i];
    if (live.in_step > 0 || !live.decodes()) continue;
    live.has_turn = true;
    if (place_next_rows(plan, live)) {
      --turns_left;
    } else {
      live.has_turn = false;
    }
  }
}

bool Scheduler::place_next_rows(Plan& plan, LiveRequest& live) {
  int64_t rows = 0;
  if (live.has_turn) {
    const int64_t drafts = std::min({static_cast<int64_t>(live.drafts.size()), live.may_generate() - 1,
                                     plan.rows_left - plan.kept_for_prompts});
    rows = 1 + std::max<int64_t>(0, drafts);
  } else if (!live.decodes()) {
    rows = computable(live, live.computed, plan.rows_left);
    live.state = rows > 0 || plan.rows_left == 0 ? RequestState::prefill : RequestState::vision;
  }
  if (rows > 0) rows = make_room(plan, live, rows);
  if (rows > 0) place(plan, live, rows);
  return rows > 0;
}

// So many tokens from `first` on, at most `most`, can be computed with the pictures that are encoded.
int64_t Scheduler::computable(const LiveRequest& live, int64_t first, int64_t most) const {
  const int64_t rows = std::min(live.size() - first, most);
  for (const PromptPicture& picture : live.pictures()) {
    if (picture.first_token >= first + rows) break;
    if (picture.first_token + picture.tokens <= first || vision_.encoded(picture.number)) continue;
    return std::max<int64_t>(0, picture.first_token - first);
  }
  return rows;
}

// Adds blocks to the table until there is room for `rows` more tokens; returns for how many of them there is.
// Others are preempted only if there would be none.
int64_t Scheduler::make_room(Plan& plan, LiveRequest& live, int64_t rows) {
  while (room(live) < rows) {
    if (const auto block = ledger_.allocate()) {
      live.table.push_back(*block);
    } else if (room(live) > 0 || !preempt_one_behind(plan, live)) {
      break;
    }
  }
  return std::min(rows, room(live));
}

// The youngest of those that no step works for: what such a step writes must stay theirs.
bool Scheduler::preempt_one_behind(Plan& plan, const LiveRequest& live) {
  const auto youngest = std::find_if(running_.rbegin(), running_.rend(),
                                     [&](const LiveRequest* other) { return other->in_step == 0; });
  FOVEA_CHECK(youngest != running_.rend());  // `live` itself, at the latest
  LiveRequest& other = **youngest;
  if (&other == &live) return false;
  release(other);
  running_.erase(std::next(youngest).base());
  if (std::exchange(other.has_turn, false)) ++plan.rows_left;
  other.state = RequestState::preempted;
  waiting_[other.arrival()] = &other;
  plan.step.preempted.push_back(other.id());
  ++preemptions_;
  return true;
}

void Scheduler::place(Plan& plan, LiveRequest& live, int64_t rows) {
  const int64_t block_tokens = ledger_.block_tokens();
  FOVEA_CHECK(ledger_.may_write(live.table[static_cast<size_t>(live.computed / block_tokens)],
                                live.computed % block_tokens));
  // One that comes back may find all but its last token, but no row was put aside for it.
  const bool decodes = live.has_turn;
  live.state = decodes ? RequestState::decode : RequestState::prefill;
  if (!decodes) reserve_blocks(live, rows);
  plan.rows_left -= decodes ? rows - 1 : rows;
  StepSegment segment;
  segment.request = live.id();
  segment.first = live.computed;
  segment.count = rows;
  if (decodes) {
    segment.logits = rows;
  } else if (rows == live.uncomputed()) {
    segment.logits = 1;
  }
  segment.table_from = live.told;
  segment.table.assign(live.table.begin() + live.told, live.table.end());
  live.told = static_cast<int64_t>(live.table.size());
  live.in_step = plan.step.number;
  live.last_served = plan.step.number;
  (decodes ? plan.step.segments : plan.chunks).push_back(std::move(segment));
}

// Announces the blocks that the next rows are written into, so that twins wait for them.
void Scheduler::reserve_blocks(const LiveRequest& live, int64_t rows) {
  const int64_t block_tokens = ledger_.block_tokens();
  const int64_t behind = blocks_for(live.computed + rows, block_tokens);
  for (int64_t i = live.computed / block_tokens; i < behind; ++i) {
    const BlockId block = live.table[static_cast<size_t>(i)];
    const auto tokens = live.tokens_in_block(i, block_tokens, live.size());
    if (!ledger_.reserve(block, live.before_block(i), tokens)) break;
  }
}

// ---- admission ----

void Scheduler::admit_waiting(Plan& plan) {
  auto waiting = waiting_.begin();
  for (int64_t looked_at = 0; looked_at < limits_.max_num_seqs && waiting != waiting_.end(); ++looked_at) {
    if (static_cast<int64_t>(running_.size()) >= limits_.max_num_seqs || plan.rows_left == 0) break;
    const auto here = waiting++;
    if (here->second->in_step > 0) continue;  // its picture is being encoded
    const Admission admission = try_to_admit(plan, *here->second);
    if (admission == Admission::lacks_blocks) break;
    if (admission == Admission::admitted) waiting_.erase(here);
  }
}

// What the index knows of a request that has no blocks, and what it may take of that.
Prefix Scheduler::known_prefix(const LiveRequest& live) const {
  return ledger_.find(live.before_block(0), live.tokens().first(static_cast<size_t>(live.sharable())));
}

Scheduler::Admission Scheduler::try_to_admit(Plan& plan, LiveRequest& live) {
  Prefix prefix = known_prefix(live);
  if (prefix.pending) {
    live.state = RequestState::twin;
    return Admission::passed_by;
  }
  const auto chunk = [&] { return std::min(live.size() - prefix.tokens, plan.rows_left); };
  const int64_t in_part = prefix.tokens % ledger_.block_tokens();
  if (in_part > 0 && !fits(prefix, chunk())) {
    // In a pool that is just large enough there is no block for the copy beside what it is copied from.
    const auto full = static_cast<size_t>(prefix.tokens - in_part);
    prefix = ledger_.find(live.before_block(0), live.tokens().first(full));
  }
  // Of a whole step's rows, not only of those that are left in this one: else it would take a place for a few
  // words, and hold it while its picture is encoded.
  const int64_t ahead = std::min(live.size() - prefix.tokens, limits_.max_num_batched_tokens);
  if (computable(live, prefix.tokens, ahead) < ahead) {
    live.state = RequestState::vision;
    return Admission::passed_by;
  }
  const int64_t rows = chunk();
  if (!fits(prefix, rows)) {
    if (live.state != RequestState::preempted) live.state = RequestState::queued;
    return Admission::lacks_blocks;
  }
  take_prefix(plan, live, prefix);
  running_.insert(std::ranges::upper_bound(running_, live.arrival(), {}, &LiveRequest::arrival), &live);
  FOVEA_CHECK(make_room(plan, live, rows) == rows);
  place(plan, live, rows);
  return Admission::admitted;
}

// Whether there are blocks for `rows` tokens behind the prefix, and one for each request that runs: so nobody
// who is preempted comes back before more blocks are free than were.
bool Scheduler::fits(const Prefix& prefix, int64_t rows) const {
  const int64_t table = blocks_for(prefix.tokens + rows, ledger_.block_tokens());
  const int64_t fresh = table - static_cast<int64_t>(prefix.blocks.size()) + (prefix.needs_copy ? 1 : 0);
  return fresh + prefix.cached + static_cast<int64_t>(running_.size()) <= ledger_.available();
}

void Scheduler::take_prefix(Plan& plan, LiveRequest& live, const Prefix& prefix) {
  ledger_.share(prefix);
  live.table = prefix.blocks;
  live.computed = prefix.tokens;
  live.published = prefix.tokens / ledger_.block_tokens();
  if (!prefix.needs_copy) return;
  const BlockId from = live.table.back();
  const auto to = ledger_.exchange_for_copy(from);
  FOVEA_CHECK(to.has_value());
  live.table.back() = *to;
  plan.step.copies.push_back({from, *to, prefix.tokens % ledger_.block_tokens()});
}

// ---- vision ----

bool Scheduler::is_encoded_now(uint64_t picture) const {
  return std::ranges::any_of(under_way_, [&](const auto& step) {
    return step.second.vision && step.second.vision->picture == picture;
  });
}

// For the first in order of arrival, whether it runs or waits.
std::optional<VisionSlice> Scheduler::choose_slice() const {
  const auto oldest_running = std::ranges::find_if(
      running_, [&](const LiveRequest* live) { return slice_for(*live, live->computed).has_value(); });
  int64_t looked_at = 0;
  for (const auto& [arrival, live] : waiting_) {
    if (oldest_running != running_.end() && (*oldest_running)->arrival() < arrival) break;
    if (looked_at++ == limits_.max_num_seqs) break;
    if (!slice_for(*live, 0)) continue;
    if (const auto slice = slice_for(*live, known_prefix(*live).tokens)) return slice;
  }
  if (oldest_running == running_.end()) return std::nullopt;
  return slice_for(**oldest_running, (*oldest_running)->computed);
}

// Of its first picture that is not encoded and of which not all tokens are known. None of a request that an
// earlier step works for, nor of a picture.
std::optional<VisionSlice> Scheduler::slice_for(const LiveRequest& live, int64_t known) const {
  if (live.in_step > 0 && live.in_step <= steps_) return std::nullopt;
  for (const PromptPicture& picture : live.pictures()) {
    if (picture.first_token + picture.tokens <= known || vision_.encoded(picture.number)) continue;
    if (is_encoded_now(picture.number)) return std::nullopt;
    return VisionSlice{live.id(), picture.number, vision_.done(picture.number),
                       std::min(limits_.slice_units, vision_.left(picture.number))};
  }
  return std::nullopt;
}

// ---- what came of it ----

std::vector<Ending> Scheduler::finished(const StepResults& results) {
  const auto under_way = under_way_.extract(results.number);
  FOVEA_CHECK(!under_way.empty());
  const Step& step = under_way.mapped();
  FOVEA_CHECK(results.segments.size() == step.segments.size());
  std::vector<Ending> endings;
  if (step.vision) take_in(*step.vision, results.vision_ok);
  for (size_t i = 0; i < step.segments.size(); ++i) apply(step.segments[i], results.segments[i], endings);
  LiveRequest* const seer = step.vision ? find(step.vision->request) : nullptr;
  if (!seer) return endings;
  seer->in_step = 0;
  if (!results.vision_ok || seer->cancel_wanted) {
    endings.push_back({seer->id(), results.vision_ok ? RequestState::cancelled : RequestState::failed});
    end(*seer, endings.back().state);
  }
  return endings;
}

void Scheduler::take_in(const VisionSlice& slice, bool ok) {
  if (ok) {
    vision_.reach(slice.picture, slice.first + slice.units);
  } else if (!vision_.encoded(slice.picture)) {
    vision_.forget(slice.picture);
  }
}

void Scheduler::apply(const StepSegment& segment, const SegmentResult& result, std::vector<Ending>& endings) {
  LiveRequest& live = *find(segment.request);
  live.in_step = 0;
  RequestState over = RequestState::failed;
  if (result.ok) {
    const auto sampled = static_cast<int64_t>(result.appended.size());
    FOVEA_CHECK(sampled <= segment.logits && sampled <= live.may_generate());
    FOVEA_CHECK(segment.logits == 0 ? !result.ended : result.ended || sampled > 0);
    const bool prompt_done = live.state == RequestState::prefill && segment.logits > 0;
    const int64_t known = live.size();
    live.append(result.appended);
    int64_t valid = std::min(segment.count, known - segment.first);
    for (; valid < segment.count && segment.first + valid < live.size(); ++valid) {
      const auto draft = live.drafts[static_cast<size_t>(segment.first + valid - known)];
      if (draft != live.tokens()[static_cast<size_t>(segment.first + valid)]) break;
    }
    const bool done = result.ended || live.may_generate() == 0;
    // The last token is computed (again) for its logits.
    live.computed = std::min(segment.first + valid, done ? live.size() : live.size() - 1);
    live.drafts.clear();
    publish(live);
    if (prompt_done) publish_tail(live);
    if (live.decodes()) live.state = RequestState::decode;
    if (!done && !live.cancel_wanted) return;
    over = done ? RequestState::done : RequestState::cancelled;
  }
  endings.push_back({live.id(), over});
  end(live, over);
}

// Enters the full blocks into the index, or takes those that others have entered.
void Scheduler::publish(LiveRequest& live) {
  const int64_t block_tokens = ledger_.block_tokens();
  while ((live.published + 1) * block_tokens <= live.computed) {
    const int64_t i = live.published;
    BlockId& own = live.table[static_cast<size_t>(i)];
    const auto tokens = live.tokens_in_block(i, block_tokens, live.computed);
    const BlockId published = ledger_.publish(own, live.before_block(i), tokens);
    if (published == kNoBlock) break;
    if (published != own) {
      ledger_.add_reference(published);
      ledger_.drop({&own, 1});
      own = published;
      live.told = std::min(live.told, i);
    }
    ++live.published;
  }
}

// Enters the last, partly filled block, from which a twin or a second turn can go on.
void Scheduler::publish_tail(const LiveRequest& live) {
  const int64_t i = live.published, block_tokens = ledger_.block_tokens();
  if (i * block_tokens >= live.computed || (i + 1) * block_tokens <= live.computed) return;
  ledger_.publish(live.table[static_cast<size_t>(i)], live.before_block(i),
                  live.tokens_in_block(i, block_tokens, live.computed));
}

// Gives the blocks back; what is computed stays findable.
void Scheduler::release(LiveRequest& live) {
  for (size_t i = live.table.size(); i-- > static_cast<size_t>(live.published);) {
    if (ledger_.is_pending(live.table[i])) ledger_.abandon(live.table[i]);
  }
  publish_tail(live);
  ledger_.drop(live.table);
  live.table.clear();
  live.drafts.clear();
  live.computed = live.published = live.told = 0;
}

void Scheduler::end(LiveRequest& live, RequestState state) {
  release(live);
  std::erase(running_, &live);
  waiting_.erase(live.arrival());
  vision_.remove(live.pictures());
  ++over_[static_cast<int>(state)];
  live_.erase(live.id());
}

// ---- queries ----

std::optional<RequestState> Scheduler::state(RequestId id) const {
  const LiveRequest* live = find(id);
  return live ? std::optional(live->state) : std::nullopt;
}

std::span<const uint64_t> Scheduler::tokens(RequestId id) const {
  const LiveRequest* live = find(id);
  return live ? live->tokens() : std::span<const uint64_t>();
}

SchedulerMetrics Scheduler::metrics() const {
  SchedulerMetrics metrics;
  std::ranges::copy(over_, metrics.in_state);
  for (const auto& [id, live] : live_) {
    ++metrics.in_state[static_cast<int>(live->state)];
    metrics.waiting_tokens += live->uncomputed();
  }
  metrics.free_blocks = ledger_.free();
  metrics.cached_blocks = ledger_.cached();
  metrics.used_blocks = ledger_.used();
  metrics.preemptions = preemptions_;
  metrics.blocks = ledger_.counters();
  return metrics;
}

void Scheduler::check() const {
  int64_t references = 0;
  for (const auto& [arrival, live] : waiting_) {
    FOVEA_CHECK(live->arrival() == arrival && live->table.empty() && live->computed == 0);
  }
  for (const LiveRequest* live : running_) {
    references += static_cast<int64_t>(live->table.size());
    FOVEA_CHECK(live->computed < live->size() && room(*live) >= 0);
    FOVEA_CHECK(live->told <= static_cast<int64_t>(live->table.size()));
  }
  FOVEA_CHECK(std::ranges::is_sorted(running_, {}, &LiveRequest::arrival));
  FOVEA_CHECK(running_.size() + waiting_.size() == live_.size());
  ledger_.check(references);
}

}  // namespace fovea
