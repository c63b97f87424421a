#include "runtime/batch_engine.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "runtime/batch_request.h"
#include "runtime/local_executor.h"
#include "runtime/pace.h"

namespace fovea {

namespace {

constexpr int64_t kFewestRows = 8;  // of prompts in a step, however slow they are
constexpr int64_t kNoLimit = int64_t{1} << 40;

void refuse(const char* option, const char* remedy) {
  throw Error(ErrorKind::unsupported, fmt::format("many requests at once and {} exclude each other", option),
              remedy);
}

void check_engine(const EngineOptions& options) {
  if (options.split) refuse("--device-map", "leave out --device-map");
  if (!options.tensor_parallel.whole()) refuse("--tensor-parallel", "leave out --tensor-parallel");
  if (options.weight_limit) refuse("streamed weights", "leave out --ram");
  if (options.kv_offload) refuse("--kv-offload", "leave out --kv-offload, and give less to the KV cache");
}

SchedulerLimits limits_of(const BatchLimits& limits) {
  return {limits.max_num_seqs, std::max<int64_t>(limits.max_num_batched_tokens, 2), limits.max_queue,
          kNoLimit};
}

// What was seen of a picture belongs to the request for which it was finished.
void add_guard(const GuardReport& from, GuardReport& to) {
  for (size_t layer = 0; layer < from.vision.size(); ++layer) {
    for (size_t head = 0; head < from.vision[layer].size(); ++head) {
      to.vision[layer][head].add(from.vision[layer][head]);
    }
  }
}

}  // namespace

class BatchEngine::State {
 public:
  State(const EngineState& engine, const BatchLimits& limits)
      : engine_(engine),
        config_(engine.parts->checkpoint.config()),
        executor_(local_executor(engine, limits.kv_cache_bytes)),
        digest_(limits.digest),
        step_seconds_(limits.step_seconds),
        most_rows_(std::max<int64_t>(limits.max_num_batched_tokens, 2)),
        vision_(limits.vision_cache_bytes),
        scheduler_(limits_of(limits), executor_->blocks(), kPageTokens) {}

  std::vector<RequestId> add(Prompt prompt, std::vector<AnswerChoice> choices, uint64_t cache_space);
  void require_room(int64_t prompt_tokens, const GenerationOptions& options) const;
  void cancel(RequestId id);
  bool step();
  BatchMetrics metrics() const;
  std::optional<RequestState> state(RequestId id) const { return scheduler_.state(id); }

 private:
  using Requests = std::unordered_map<RequestId, std::unique_ptr<BatchRequest>>;

  BatchRequest& request(RequestId id) { return *requests_.at(id); }
  bool is_wanted(uint64_t picture) const {
    return std::any_of(requests_.begin(), requests_.end(), [&](const auto& live) {
      const auto& all = live.second->pictures;
      return std::any_of(all.begin(), all.end(), [&](const PlacedPicture& p) { return p.number == picture; });
    });
  }
  int64_t longest_answer(int64_t prompt_tokens, const GenerationOptions& options) const;
  void arrive(std::unique_ptr<BatchRequest> live, Request order);
  void set_pace();
  void fill_order(Step step);
  void embed(const StepSegment& segment, const BatchRequest& request, float* hidden);
  Picture take_pixels(const VisionSlice& slice);
  // Another choice of the prompt has had the pixels, and failed.
  bool is_lost(const VisionSlice& slice) {
    return slice.first == 0 && request(slice.request).shown->failure != nullptr;
  }
  void take_picture(const VisionSlice& slice, StepResults& results);
  void hand_out(uint64_t number, Buffer<float> embeddings);
  void take_rows(StepResults& results);
  void sample();
  void take_token(BatchRequest& request, int32_t id, SegmentResult& result);
  void end(const Ending& ending);

  const EngineState& engine_;
  const ModelConfig& config_;
  std::unique_ptr<Executor> executor_;
  Digest (*digest_)(const Picture&);
  double step_seconds_;
  int64_t most_rows_;
  VisionCache vision_;
  Scheduler scheduler_;
  Requests requests_;
  Pace pace_;
  RequestId next_id_ = 1;
  BatchMetrics counts_;
  // Of the step under way; memory is kept from step to step.
  StepOrder order_;
  StepOutcome outcome_;
  std::vector<BatchRequest*> samplers_;  // of each row of logits
  std::vector<int32_t> sampled_;
};

int64_t BatchEngine::State::longest_answer(int64_t prompt_tokens, const GenerationOptions& options) const {
  return std::min(options.max_new_tokens, config_.text.max_position_embeddings - prompt_tokens);
}

void BatchEngine::State::require_room(int64_t prompt_tokens, const GenerationOptions& options) const {
  const int64_t wanted = longest_answer(prompt_tokens, options);
  if (wanted <= 0 || !scheduler_.never_fits(prompt_tokens, wanted)) return;
  throw Error(ErrorKind::exhausted,
              fmt::format("{} tokens of prompt and {} of answer do not fit into a KV cache of {} tokens",
                          prompt_tokens, wanted, executor_->blocks() * kPageTokens),
              "ask for a shorter answer, use smaller pictures, or give more memory to the KV cache");
}

std::vector<RequestId> BatchEngine::State::add(Prompt prompt, std::vector<AnswerChoice> choices,
                                               uint64_t cache_space) {
  for (const AnswerChoice& choice : choices) check_options(choice.options, engine_.parts->checkpoint);
  const std::vector<PlacedPicture> placed = place_pictures(prompt, config_, vision_, cache_space, digest_);
  const Request order{0,
                      cache_space << 1 | static_cast<uint64_t>(prompt.video_positions),
                      identities_of(prompt, placed),
                      0,
                      {}};
  const auto shown = std::make_shared<ShownPictures>();
  shown->pictures = std::move(prompt.pictures);
  std::vector<RequestId> ids;
  try {
    for (AnswerChoice& choice : choices) {
      auto live = std::make_unique<BatchRequest>(next_id_++, engine_, prompt, std::move(choice));
      live->shown = shown;
      live->pictures = placed;
      ids.push_back(live->id);
      arrive(std::move(live), order);
    }
  } catch (const Error&) {
    for (const RequestId id : ids) cancel(id);
    throw;
  }
  return ids;
}

// `order`: all but what is the request's own.
void BatchEngine::State::arrive(std::unique_ptr<BatchRequest> live, Request order) {
  BatchRequest& r = *live;
  order.id = r.id;
  order.max_new_tokens = longest_answer(r.sequence.size(), r.options);
  if (order.max_new_tokens <= 0) {
    if (r.callbacks.on_answer) r.callbacks.on_answer(std::move(r.answer));
    return;
  }
  require_room(r.sequence.size(), r.options);
  for (PlacedPicture& picture : r.pictures) {
    Picture& shown = r.shown->pictures[order.pictures.size()];
    picture.embeddings = vision_.find(picture.number);
    if (picture.embeddings) {
      ++counts_.picture_hits;
      shown.patches = {};
    }
    order.pictures.push_back({picture.number, shown.grid.patches(), picture.first_token, picture.tokens,
                              picture.embeddings != nullptr});
  }
  if (scheduler_.arrive(std::move(order))) {  // it fits, as was seen
    throw Error(ErrorKind::exhausted, "too many requests wait", "ask again later");
  }
  requests_[r.id] = std::move(live);
}

void BatchEngine::State::cancel(RequestId id) {
  if (scheduler_.cancel(id) == Cancellation::now) end({id, RequestState::cancelled});
}

// While somebody decodes, prompts and pictures take so much of a step that it ends in time.
void BatchEngine::State::set_pace() {
  const bool somebody_waits = scheduler_.metrics().in(RequestState::decode) > 0;
  scheduler_.set_slice_units(somebody_waits ? pace_.patches_within(step_seconds_ / 2) : kNoLimit);
  scheduler_.set_step_tokens(somebody_waits ? std::clamp(pace_.rows_within(step_seconds_ / 2),
                                                         std::min(kFewestRows, most_rows_), most_rows_)
                                            : most_rows_);
}

bool BatchEngine::State::step() {
  set_pace();
  Step step = scheduler_.next();
  if (step.empty()) return false;
  StepResults results;
  results.number = step.number;
  results.segments.resize(step.segments.size());
  const std::optional<VisionSlice> slice = step.vision;
  fill_order(std::move(step));
  executor_->begin(order_, outcome_);
  executor_->finish();
  if (slice) take_picture(*slice, results);
  if (!order_.segments.empty()) take_rows(results);
  for (const Ending& ending : scheduler_.finished(results)) end(ending);
  for (const uint64_t number : vision_.shrink()) scheduler_.forget_picture(number);
  ++counts_.steps;
  return true;
}

void BatchEngine::State::fill_order(Step step) {
  order_.number = step.number;
  order_.forgotten = std::move(step.preempted);
  order_.copies = std::move(step.copies);
  order_.segments.clear();
  for (StepSegment& segment : step.segments) {
    BatchRequest& r = request(segment.request);
    if (!std::exchange(r.started, true) && r.callbacks.on_start) r.callbacks.on_start(segment.first);
    const auto positions = r.sequence.positions(segment.first, segment.count);
    order_.segments.push_back({std::move(segment), positions, watching(r.answer.guard)});
  }
  order_.hidden.reserve(order_.row_count() * config_.text.hidden_size);
  float* to = order_.hidden.data();
  for (const SegmentOrder& segment : order_.segments) {
    embed(segment.rows, request(segment.rows.request), to);
    to += segment.rows.count * config_.text.hidden_size;
  }
  order_.picture.reset();
  if (!step.vision || is_lost(*step.vision)) return;
  order_.picture = {step.vision->picture, step.vision->first, step.vision->first + step.vision->units};
  if (step.vision->first == 0) order_.picture->picture = take_pixels(*step.vision);
}

// The pixels of a picture whose encoding begins.
Picture BatchEngine::State::take_pixels(const VisionSlice& slice) {
  BatchRequest& r = request(slice.request);
  const auto placed = std::find_if(r.pictures.begin(), r.pictures.end(),
                                   [&](const PlacedPicture& p) { return p.number == slice.picture; });
  return std::move(r.shown->pictures[static_cast<size_t>(placed - r.pictures.begin())]);
}

void BatchEngine::State::take_picture(const VisionSlice& slice, StepResults& results) {
  BatchRequest& r = request(slice.request);
  PictureOutcome& outcome = outcome_.picture;
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
    add_guard(outcome.guard, r.answer.guard);
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
      if (other->pictures[i].number != number) continue;
      other->pictures[i].embeddings = kept;
      other->shown->pictures[i].patches = {};
    }
  }
}

void BatchEngine::State::embed(const StepSegment& segment, const BatchRequest& request, float* hidden) {
  const int64_t width = config_.text.hidden_size, first = segment.first, end = first + segment.count;
  engine_.decoder.embed(std::span(request.sequence.ids())
                            .subspan(static_cast<size_t>(first), static_cast<size_t>(segment.count)),
                        hidden);
  for (const PlacedPicture& picture : request.pictures) {
    const int64_t from = std::max(first, picture.first_token),
                  to = std::min(end, picture.first_token + picture.tokens);
    if (from >= to) continue;
    FOVEA_CHECK(picture.embeddings != nullptr);
    std::copy_n(picture.embeddings->data() + (from - picture.first_token) * width, (to - from) * width,
                hidden + (from - first) * width);
  }
}

void BatchEngine::State::take_rows(StepResults& results) {
  const int64_t rows = order_.row_count();
  pace_.rows(rows, outcome_.row_seconds);
  counts_.rows += rows;
  sample();
  const int64_t vocab = config_.text.vocab_size;
  size_t row = 0;
  for (size_t i = 0; i < order_.segments.size(); ++i) {
    const StepSegment& segment = order_.segments[i].rows;
    BatchRequest& r = request(segment.request);
    std::exception_ptr failure = outcome_.failures[i];
    for (int64_t n = 0; n < segment.logits; ++n, ++row) {
      if (!failure) failure = outcome_.logit_failures[row];
      if (failure) continue;
      const float* logits = outcome_.logits.data() + static_cast<int64_t>(row) * vocab;
      if (r.callbacks.on_token) r.callbacks.on_token(sampled_[row], {logits, static_cast<size_t>(vocab)});
      take_token(r, sampled_[row], results.segments[i]);
    }
    if (!failure) continue;
    r.failure = failure;
    results.segments[i].ok = false;
  }
}

// A sampler is its request's own, so rows are sampled side by side.
void BatchEngine::State::sample() {
  samplers_.clear();
  for (size_t i = 0; i < order_.segments.size(); ++i) {
    const StepSegment& segment = order_.segments[i].rows;
    FOVEA_CHECK(segment.logits <= 1);  // no drafts were proposed
    if (segment.logits > 0) samplers_.push_back(outcome_.failures[i] ? nullptr : &request(segment.request));
  }
  const int64_t vocab = config_.text.vocab_size;
  sampled_.resize(samplers_.size());
  engine_.parts->weights.context().parallel_for(std::ssize(samplers_), [&](int64_t index) {
    const auto i = static_cast<size_t>(index);
    if (samplers_[i] == nullptr || outcome_.logit_failures[i]) return;
    try {
      sampled_[i] = samplers_[i]->sampler.next(
          {outcome_.logits.data() + index * vocab, static_cast<size_t>(vocab)}, samplers_[i]->sequence.ids());
    } catch (const Error&) {
      outcome_.logit_failures[i] = std::current_exception();
    }
  });
}

// A token joins its request's sequence and text.
void BatchEngine::State::take_token(BatchRequest& r, int32_t id, SegmentResult& result) {
  r.answer.token_ids.push_back(id);
  if (r.answer.token_ids.size() == 1) {
    r.answer.timings.prefill_s = r.since_arrival.seconds();
    r.since_first_token = Stopwatch();
  }
  r.answer.timings.decode_s = r.since_first_token.seconds();
  r.sequence.append(id);
  result.appended.push_back(static_cast<uint64_t>(id));
  const bool ended = ends_answer(r.options, id);
  if (!ended) r.text.push(id);
  if (ended || r.text.stopped()) {
    r.answer.finish_reason = "stop";
    result.ended = true;
  }
}

void BatchEngine::State::end(const Ending& ending) {
  auto node = requests_.extract(ending.request);
  BatchRequest& r = *node.mapped();
  for (const PlacedPicture& picture : r.pictures) {
    if (!is_wanted(picture.number)) executor_->drop_picture(picture.number);
  }
  r.answer.kv_cache = executor_->kv_state(r.id);
  executor_->forget(r.id);
  if (ending.state == RequestState::failed) {
    FOVEA_CHECK(r.failure != nullptr);
    if (r.callbacks.on_failure) r.callbacks.on_failure(r.failure);
    return;
  }
  if (ending.state == RequestState::cancelled) r.answer.finish_reason = "cancelled";
  r.answer.text = r.text.finish();
  r.answer.timings.generated_tokens = std::ssize(r.answer.token_ids);
  if (r.callbacks.on_answer) r.callbacks.on_answer(std::move(r.answer));
}

BatchMetrics BatchEngine::State::metrics() const {
  BatchMetrics metrics = counts_;
  metrics.schedule = scheduler_.metrics();
  metrics.blocks = executor_->blocks();
  metrics.block_bytes = executor_->block_bytes();
  metrics.pixel_bytes = executor_->pixel_bytes();
  std::unordered_set<const ShownPictures*> counted;
  for (const auto& [id, live] : requests_) {
    if (!counted.insert(live->shown.get()).second) continue;
    for (const Picture& picture : live->shown->pictures) {
      metrics.pixel_bytes += picture.patches.size() * int64_t{sizeof(float)};
    }
  }
  return metrics;
}

int64_t BatchEngine::block_bytes(const Engine& engine) { return kv_layout(*engine.state_).block_bytes(); }

BatchEngine::BatchEngine(const Engine& engine, const BatchLimits& limits) {
  check_engine(engine.options());
  state_ = std::make_unique<State>(*engine.state_, limits);
}
BatchEngine::~BatchEngine() = default;

RequestId BatchEngine::add(Prompt prompt, const GenerationOptions& options, RequestCallbacks callbacks,
                           uint64_t cache_space) {
  return state_->add(std::move(prompt), {{options, std::move(callbacks)}}, cache_space).front();
}
std::vector<RequestId> BatchEngine::add(Prompt prompt, std::vector<AnswerChoice> choices,
                                        uint64_t cache_space) {
  return state_->add(std::move(prompt), std::move(choices), cache_space);
}
void BatchEngine::require_room(int64_t prompt_tokens, const GenerationOptions& options) const {
  state_->require_room(prompt_tokens, options);
}
void BatchEngine::cancel(RequestId id) { state_->cancel(id); }
bool BatchEngine::step() { return state_->step(); }
std::optional<RequestState> BatchEngine::state(RequestId id) const { return state_->state(id); }
BatchMetrics BatchEngine::metrics() const { return state_->metrics(); }

}  // namespace fovea
