// Orders for a step, and what is made of their outcome.
#include <numeric>
#include <utility>

#include "runtime/batch_state.h"
#include "runtime/picture_encoding.h"

namespace fovea {

namespace {

constexpr int64_t kFewestRows = 8;  // of prompts in a step, however slow they are

}  // namespace

bool BatchEngine::State::layer_by_layer() const {
  return engine_.parts->weights.streams() ||
         std::any_of(requests_.begin(), requests_.end(),
                     [](const auto& live) { return live.second->on_disk; });
}

// While somebody decodes, prompts and pictures take so much of a step that it ends in time. What passes
// through the layers from disk is not cut: each step would have to read them.
void BatchEngine::State::set_pace() {
  const bool somebody_waits = scheduler_.metrics().in(RequestState::decode) > 0, whole = layer_by_layer();
  scheduler_.set_slice_units(somebody_waits && !whole ? pace_.patches_within(step_seconds_ / 2) : kNoLimit);
  int64_t rows = most_rows_;
  if (whole) {
    rows = kNoLimit;
  } else if (somebody_waits) {
    rows = std::clamp(pace_.rows_within(step_seconds_ / 2), std::min(kFewestRows, rows), rows);
  }
  scheduler_.set_step_tokens(rows);
}

// Who decodes alone drafts what pays by its own times; in company requests share what pays for all of them.
void BatchEngine::State::propose() {
  announcing_.clear();
  for (auto& [id, live] : requests_) {
    if (live->job.proposals == 0 || live->under_way || scheduler_.state(id) != RequestState::decode) continue;
    if (!live->job.proposals && requests_.size() > 1) {
      announcing_.push_back(live.get());
      continue;
    }
    const auto draft = live->draft();  // in place of one that found no room
    scheduler_.propose(id, {draft.begin(), draft.end()});
  }
  if (announcing_.empty()) return;
  chances_.resize(static_cast<size_t>(scheduler_.metrics().in(RequestState::decode)));
  for (size_t i = 0; i < chances_.size(); ++i) {
    chances_[i].clear();
    if (i < announcing_.size()) announcing_[i]->announce(chances_[i]);
  }
  const std::vector<int64_t> shares = share_drafts(decode_times_, chances_);
  for (size_t i = 0; i < announcing_.size(); ++i) {
    const auto& draft = announcing_[i]->drafted;
    scheduler_.propose(announcing_[i]->id, {draft.begin(), draft.begin() + shares[i]});
  }
}

// As many steps are begun as the executor takes, then the first of them is finished.
bool BatchEngine::State::step() {
  if (broken_) std::rethrow_exception(broken_);
  try {
    while (std::ssize(under_way_) < executor_->orders_at_once() && begin_step()) {
    }
    if (under_way_.empty()) return false;
    if (!under_way_.front()->given_up) executor_->finish();
    finish_step();
  } catch (const std::exception&) {
    end_all();
    throw;
  }
  return true;
}

bool BatchEngine::State::begin_step() {
  set_pace();
  propose();
  Step step = scheduler_.next();
  if (step.empty()) return false;
  if (idle_.empty()) idle_.push_back(std::make_unique<StepUnderWay>());
  StepUnderWay& begun = *under_way_.emplace_back(std::move(idle_.front()));
  idle_.pop_front();
  begun.slice = step.vision;
  fill(begun.order, std::move(step));
  begun.since = Stopwatch();
  begun.given_up = false;
  try {
    executor_->begin(begun.order, begun.outcome);
  } catch (const Cancelled&) {
    begun.given_up = true;
  }
  return true;
}

void BatchEngine::State::finish_step() {
  StepUnderWay& step = *idle_.emplace_back(std::move(under_way_.front()));
  under_way_.pop_front();
  for (const SegmentOrder& segment : step.order.segments) request(segment.rows.request).under_way = false;
  StepResults results;
  results.number = step.order.number;
  results.segments.resize(step.order.segments.size());
  try {
    if (step.given_up) throw Cancelled{};
    take(step, results);
    if (step.slice) take_picture(step, results);
  } catch (const Cancelled&) {
    give_up(results);
  }
  for (const Ending& ending : scheduler_.finished(results)) end(ending);
  for (const uint64_t number : vision_.shrink()) scheduler_.forget_picture(number);
  ++counts_.steps;
}

// What belongs to no request ends them all.
void BatchEngine::State::end_all() {
  broken_ = std::current_exception();
  std::vector<RequestId> ids;
  for (const auto& [id, live] : requests_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const RequestId id : ids) {
    const auto node = requests_.extract(id);
    const auto& on_failure = node.mapped()->job.callbacks.on_failure;
    if (on_failure) on_failure(broken_);
  }
}

void BatchEngine::State::take(StepUnderWay& step, StepResults& results) {
  const double seconds = step.since.seconds();
  const StepOrder& order = step.order;
  const int64_t rows = order.row_count();
  if (rows == 0) return;
  pace_.rows(rows, step.outcome.row_seconds);
  counts_.rows += rows;
  std::vector<size_t> places(order.segments.size());
  std::iota(places.begin(), places.end(), size_t{0});
  if (order.logit_count() == rows && !order.picture) decode_times_.timed(rows, seconds);
  if (places.size() == 1 && requests_.size() == 1) {
    BatchRequest& alone = request(order.segments[0].rows.request);
    const bool whole = !step.outcome.failures[0] && order.segments[0].rows.logits == rows;
    if (whole && alone.drafter) alone.drafter->timed(rows, seconds);
  }
  const std::vector<size_t> again = take_rows(step, places, results);
  if (!again.empty()) verify_plainly(step, again, results);
}

// Whoever follows the engine wants it to stop: nothing of the step was done, and every request ends.
void BatchEngine::State::give_up(StepResults& results) {
  for (SegmentResult& segment : results.segments) segment.ok = false;
  results.vision_ok = false;
  std::vector<RequestId> waiting;
  for (const auto& [id, live] : requests_) {
    live->interrupted = true;
    live->failure = nullptr;
    waiting.push_back(id);
  }
  for (const RequestId id : waiting) cancel(id);
}

SegmentOrder BatchEngine::State::segment_order(StepSegment segment) {
  BatchRequest& r = request(segment.request);
  r.under_way = true;
  if (!std::exchange(r.started, true)) {
    r.known_tokens = segment.first;
    if (r.job.callbacks.on_start) r.job.callbacks.on_start(segment.first);
  }
  r.append_draft(std::max<int64_t>(segment.first + segment.count - r.sequence.size(), 0));
  SegmentOrder order;
  order.positions = r.sequence.positions(segment.first, segment.count);
  order.capacity = r.capacity();
  order.guard = watching(r.answer.guard);
  order.observer = r.job.layers;
  if (r.measures()) {
    const int64_t from = std::max(segment.first, r.job.measured_from);
    segment.logits = std::max<int64_t>(segment.first + segment.count - from, 0);
    order.logits_to = r.job.measured_to + (from - r.job.measured_from) * config_.text.vocab_size;
  }
  order.rows = std::move(segment);
  return order;
}

void BatchEngine::State::fill(StepOrder& order, Step step) {
  order.number = step.number;
  order.forgotten = std::move(step.preempted);
  order.copies = std::move(step.copies);
  order.segments.clear();
  for (StepSegment& segment : step.segments) order.segments.push_back(segment_order(std::move(segment)));
  embed(order);
  order.piece = piece(order);
  order.hooks = hooks(order);
  order.picture.reset();
  if (step.vision && !is_lost(*step.vision)) order.picture = picture_order(*step.vision);
}

void BatchEngine::State::embed(StepOrder& order) {
  const int64_t width = config_.text.hidden_size;
  order.hidden.reserve(order.row_count() * width);
  float* to = order.hidden.data();
  for (const SegmentOrder& segment : order.segments) {
    const BatchRequest& r = request(segment.rows.request);
    const int64_t first = segment.rows.first, count = segment.rows.count;
    engine_.decoder.embed(
        std::span(r.sequence.ids()).subspan(static_cast<size_t>(first), static_cast<size_t>(count)), to);
    r.put_pictures(first, count, width, to);
    to += count * width;
  }
}

// Of prompts; the rows of a draft go together in any case.
int64_t BatchEngine::State::piece(const StepOrder& order) const {
  const bool prompts = std::any_of(order.segments.begin(), order.segments.end(), [&](const auto& segment) {
    return segment.rows.first < requests_.at(segment.rows.request)->sequence.prompt_size();
  });
  return prompts && (layer_by_layer() || piece_ < most_rows_) ? piece_ : 0;
}

// One layer of a long chunk takes a second on a slow machine, and so does fetching one.
PassHooks BatchEngine::State::hooks(const StepOrder& order) {
  PassHooks hooks;
  const bool waits = layer_by_layer();
  const int64_t rows = order.row_count();
  if (follower_.cancel != nullptr && (rows > 1 || waits))
    hooks.after_layer = [this] { check_cancelled(follower_); };
  if (!waits) return hooks;
  hooks.while_waiting = hooks.after_layer;
  if (!follower_.progress || rows == 0 || order.segments[0].rows.first > 0) return hooks;
  const int64_t pieces = piece_ > 0 ? (rows + piece_ - 1) / piece_ : 1,
                calls = pieces * engine_.decoder.config().num_hidden_layers;
  hooks.after_layer = [this, rows, calls, done = int64_t{0}]() mutable {
    check_cancelled(follower_);
    follower_.progress("prefill", ++done * rows / calls, rows);
  };
  return hooks;
}

// The pixels go with the first slice.
PictureOrder BatchEngine::State::picture_order(const VisionSlice& slice) {
  BatchRequest& r = request(slice.request);
  const auto placed = std::find_if(r.pictures.begin(), r.pictures.end(),
                                   [&](const PlacedPicture& p) { return p.number == slice.picture; });
  Picture& picture = r.shown->pictures[static_cast<size_t>(placed - r.pictures.begin())];
  PictureOrder order{slice.picture, slice.first, slice.first + slice.units, picture.grid};
  if (slice.first == 0) order.picture = std::move(picture);
  return order;
}

void BatchEngine::State::take_picture(StepUnderWay& step, StepResults& results) {
  const VisionSlice& slice = *step.slice;
  BatchRequest& r = request(slice.request);
  PictureOutcome& outcome = step.outcome.picture;
  if (is_lost(slice)) {
    r.failure = r.shown->failure;
    results.vision_ok = false;
    return;
  }
  if (outcome.failure) {
    r.failure = r.shown->failure = outcome.failure;
    results.vision_ok = false;
    return;
  }
  if (outcome.embeddings) {
    add_vision_guard(outcome.guard, r.answer.guard);
    hand_out(slice.picture, std::move(*outcome.embeddings));
  }
  r.answer.timings.vision_s += outcome.seconds;
  pace_.slice(slice.units, outcome.seconds);
}

// Whoever needs the picture gets its embeddings, and lets its pixels go.
void BatchEngine::State::hand_out(uint64_t number, Buffer<float> embeddings) {
  const Embeddings kept = vision_.put(number, std::move(embeddings));
  ++counts_.pictures_encoded;
  for (const auto& [id, other] : requests_) {
    for (size_t i = 0; i < other->pictures.size(); ++i) {
      if (other->pictures[i].number != number || !other->shown) continue;
      other->pictures[i].embeddings = kept;
      other->shown->pictures[i].patches = {};
    }
  }
}

// `places`: of the order's segments among the results. Returns those of drafts that could not be verified.
std::vector<size_t> BatchEngine::State::take_rows(StepUnderWay& step, const std::vector<size_t>& places,
                                                  StepResults& results) {
  for (const SegmentOrder& segment : step.order.segments) request(segment.rows.request).remove_draft();
  sample(step);
  std::vector<size_t> again;
  for (size_t i = 0; i < step.order.segments.size(); ++i) {
    if (!take_segment(step, i, first_rows_[i], results.segments[places[i]])) again.push_back(places[i]);
  }
  return again;
}

// Samplers are their requests' own, so that segments are sampled side by side: the first row of each.
void BatchEngine::State::sample(StepUnderWay& step) {
  samplers_.clear();
  first_rows_.clear();
  size_t row = 0;
  for (size_t i = 0; i < step.order.segments.size(); ++i) {
    const SegmentOrder& segment = step.order.segments[i];
    const bool sampled = segment.rows.logits > 0 && segment.logits_to == nullptr;
    first_rows_.push_back(row);
    samplers_.push_back(sampled && !step.outcome.failures[i] && !step.outcome.logit_failures[row]
                            ? &request(segment.rows.request)
                            : nullptr);
    if (sampled) row += static_cast<size_t>(segment.rows.logits);
  }
  sampled_.resize(samplers_.size());
  engine_.parts->weights.context().parallel_for(std::ssize(samplers_), [&](int64_t index) {
    const auto i = static_cast<size_t>(index);
    if (samplers_[i] == nullptr) return;
    try {
      sampled_[i] = samplers_[i]->choose(logits_of(step, first_rows_[i]));
    } catch (const Error&) {
      step.outcome.failures[i] = std::current_exception();
    }
  });
}

// What came of a segment whose logits begin at `row`. False where a draft was in it and some row is not
// finite: it may be one that plain decoding never sees, so a plain step has to tell.
bool BatchEngine::State::take_segment(StepUnderWay& step, size_t index, size_t row, SegmentResult& result) {
  const SegmentOrder& segment = step.order.segments[index];
  BatchRequest& r = request(segment.rows.request);
  const auto rows = static_cast<size_t>(segment.logits_to == nullptr ? segment.rows.logits : 0);
  std::exception_ptr failure = step.outcome.failures[index];
  for (size_t n = 0; n < rows && !failure; ++n) failure = step.outcome.logit_failures[row + n];
  if (failure && !r.drafted.empty()) return false;
  if (failure) {
    r.failure = failure;
    result.ok = false;
    return true;
  }
  report(r, segment.rows);
  if (r.measures() && segment.rows.first + segment.rows.count == r.sequence.size()) result.ended = true;
  if (rows > 1) {
    ++r.answer.speculation.steps;
    r.answer.speculation.proposed += std::ssize(r.drafted);
  }
  for (size_t n = 0; n < rows && !result.ended; ++n) {
    const std::span<const float> logits = logits_of(step, row + n);
    const int32_t token = n == 0 ? sampled_[index] : r.choose(logits);
    if (r.job.callbacks.on_token) r.job.callbacks.on_token(token, logits);
    r.take(token, engine_.parts->weights.stream_state().fetched_bytes, result);
    if (interrupted() && !result.ended) r.interrupted = result.ended = true;
    if (n + 1 == rows || result.ended || token != r.drafted[n]) break;
    ++r.answer.speculation.accepted;
  }
  r.drafted.clear();
  return true;
}

// One row of each of these segments, without drafts. Only where one process computes: elsewhere nothing is
// drafted.
void BatchEngine::State::verify_plainly(StepUnderWay& step, std::vector<size_t> places,
                                        StepResults& results) {
  FOVEA_CHECK(under_way_.empty());
  StepOrder& order = step.order;
  std::vector<SegmentOrder> plain;
  for (SegmentOrder& segment : order.segments) {
    BatchRequest& r = request(segment.rows.request);
    if (r.drafted.empty()) continue;
    r.drafted.clear();
    segment.rows.count = segment.rows.logits = 1;
    segment.positions = r.sequence.positions(segment.rows.first, 1);
    plain.push_back(std::move(segment));
  }
  order.segments = std::move(plain);
  order.forgotten.clear();
  order.copies.clear();
  order.picture.reset();
  embed(order);
  PictureOutcome picture = std::move(step.outcome.picture);
  executor_->begin(order, step.outcome);
  executor_->finish();
  step.outcome.picture = std::move(picture);
  counts_.rows += order.row_count();
  take_rows(step, places, results);
}

// How far the prompt is.
void BatchEngine::State::report(const BatchRequest& r, const StepSegment& segment) {
  if (!follower_.progress || segment.count < 2 || !r.answer.token_ids.empty() || layer_by_layer()) return;
  follower_.progress("prefill", segment.first + segment.count - r.known_tokens,
                     r.sequence.prompt_size() - r.known_tokens);
}

}  // namespace fovea
