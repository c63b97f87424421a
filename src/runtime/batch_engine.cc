#include "runtime/batch_engine.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/parallel.h"
#include "model/batch.h"
#include "runtime/batch_request.h"
#include "runtime/pace.h"
#include "runtime/picture_encoding.h"

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

KvLayout layout_of(const EngineState& engine) {
  return {engine.decoder.config(), engine.precision.text.layers, engine.held(),
          engine.options.guard.mode != GuardMode::off};
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
        pool_(layout_of(engine), blocks_in(layout_of(engine), limits.kv_cache_bytes)),
        digest_(limits.digest),
        step_seconds_(limits.step_seconds),
        most_rows_(std::max<int64_t>(limits.max_num_batched_tokens, 2)),
        vision_(limits.vision_cache_bytes),
        scheduler_(limits_of(limits), pool_.blocks(), kPageTokens) {}

  RequestId add(Prompt prompt, const GenerationOptions& options, RequestCallbacks callbacks);
  void cancel(RequestId id);
  bool step();
  BatchMetrics metrics() const;
  std::optional<RequestState> state(RequestId id) const { return scheduler_.state(id); }

 private:
  using Requests = std::unordered_map<RequestId, std::unique_ptr<BatchRequest>>;

  static int64_t blocks_in(const KvLayout& layout, int64_t bytes) {
    const int64_t blocks = bytes / layout.block_bytes();
    if (blocks >= 1) return blocks;
    throw Error(ErrorKind::exhausted,
                fmt::format("a KV cache of {:.1f} MB has no room for one block of {} tokens, {:.1f} MB",
                            static_cast<double>(bytes) / 1e6, kPageTokens,
                            static_cast<double>(layout.block_bytes()) / 1e6),
                "give it more");
  }

  BatchRequest& request(RequestId id) { return *requests_.at(id); }
  bool is_wanted(uint64_t picture) const {
    return std::any_of(requests_.begin(), requests_.end(), [&](const auto& live) {
      const auto& all = live.second->pictures;
      return std::any_of(all.begin(), all.end(), [&](const PlacedPicture& p) { return p.number == picture; });
    });
  }
  void set_pace();
  void encode(const VisionSlice& slice, StepResults& results);
  void hand_out(uint64_t number, Buffer<float> embeddings);
  void forward(const Step& step, StepResults& results);
  void set_table(const StepSegment& segment, BatchRequest& request);
  void embed(const StepSegment& segment, const BatchRequest& request, float* hidden);
  void head(const Step& step, std::span<Segment> segments);
  void sample(const Step& step, StepResults& results);
  void take_token(BatchRequest& request, int32_t id, SegmentResult& result);
  void end(const Ending& ending);

  const EngineState& engine_;
  const ModelConfig& config_;
  KvPool pool_;
  Digest (*digest_)(const Picture&);
  double step_seconds_;
  int64_t most_rows_;
  VisionCache vision_;
  Scheduler scheduler_;
  Requests requests_;
  std::unordered_map<uint64_t, PictureEncoding> encodings_;  // under way, by the picture's number
  Pace pace_;
  RequestId next_id_ = 1;
  BatchMetrics counts_;
  // Of the step under way; memory is kept from step to step.
  DecoderScratch scratch_;
  Buffer<float> hidden_, last_rows_, logits_;
  std::vector<Segment> segments_;
  std::vector<BatchRequest*> samplers_;  // whose rows logits_ holds, in order
  std::vector<int32_t> sampled_;
  std::vector<std::exception_ptr> failures_;
};

RequestId BatchEngine::State::add(Prompt prompt, const GenerationOptions& options,
                                  RequestCallbacks callbacks) {
  check_options(options, engine_.parts->checkpoint);
  const RequestId id = next_id_++;
  auto live =
      std::make_unique<BatchRequest>(id, engine_, std::move(prompt), options, std::move(callbacks), pool_);
  BatchRequest& r = *live;
  const int64_t room = config_.text.max_position_embeddings - r.sequence.size(),
                wanted = std::min(options.max_new_tokens, room);
  if (wanted <= 0) {
    if (r.callbacks.on_answer) r.callbacks.on_answer(std::move(r.answer));
    return id;
  }
  r.pictures = place_pictures(r.prompt, config_, vision_, digest_);
  Request order{
      id, static_cast<uint64_t>(r.prompt.video_positions), identities_of(r.prompt, r.pictures), wanted, {}};
  for (PlacedPicture& picture : r.pictures) {
    const int64_t units = r.prompt.pictures[order.pictures.size()].grid.patches();
    picture.embeddings = vision_.find(picture.number);
    if (picture.embeddings) {
      ++counts_.picture_hits;
      r.prompt.pictures[order.pictures.size()].patches = {};
    }
    order.pictures.push_back(
        {picture.number, units, picture.first_token, picture.tokens, picture.embeddings != nullptr});
  }
  const std::optional<Refusal> refusal = scheduler_.arrive(std::move(order));
  if (refusal == Refusal::queue_full) {
    throw Error(ErrorKind::exhausted, "too many requests wait", "ask again later");
  }
  if (refusal == Refusal::never_fits) {
    throw Error(ErrorKind::exhausted,
                fmt::format("{} tokens of prompt and {} of answer do not fit into a KV cache of {} tokens",
                            r.sequence.size(), wanted, pool_.blocks() * kPageTokens),
                "ask for a shorter answer, use smaller pictures, or give more memory to the KV cache");
  }
  requests_[id] = std::move(live);
  return id;
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
  const Step step = scheduler_.next();
  if (step.empty()) return false;
  StepResults results;
  results.number = step.number;
  results.segments.resize(step.segments.size());
  for (const RequestId id : step.preempted) request(id).cache.drop_blocks(0);
  for (const BlockCopy& copy : step.copies) pool_.copy(copy.from, copy.to);
  if (step.vision) encode(*step.vision, results);
  if (!step.segments.empty()) forward(step, results);
  for (const Ending& ending : scheduler_.finished(results)) end(ending);
  for (const uint64_t number : vision_.shrink()) scheduler_.forget_picture(number);
  ++counts_.steps;
  return true;
}

// A slice of a picture's encoding. The encoding keeps the pixels, for the request that brought them may end
// before it.
void BatchEngine::State::encode(const VisionSlice& slice, StepResults& results) {
  BatchRequest& r = request(slice.request);
  const auto placed = std::find_if(r.pictures.begin(), r.pictures.end(),
                                   [&](const PlacedPicture& p) { return p.number == slice.picture; });
  Picture& picture = r.prompt.pictures[static_cast<size_t>(placed - r.pictures.begin())];
  const Stopwatch watch;
  try {
    if (slice.first == 0) {
      encodings_.erase(slice.picture);
      encodings_.try_emplace(slice.picture, engine_, std::move(picture));
    }
    PictureEncoding& work = encodings_.at(slice.picture);
    work.advance_to(slice.first + slice.units);
    if (slice.first + slice.units == work.patches()) {
      add_guard(work.guard(), r.answer.guard);
      hand_out(slice.picture, work.embeddings());
    }
  } catch (const Error&) {
    r.failure = std::current_exception();
    encodings_.erase(slice.picture);
    results.vision_ok = false;
    return;
  }
  r.answer.timings.vision_s += watch.seconds();
  pace_.slice(slice.units, watch.seconds());
}

// Whoever needs the picture gets its embeddings, and lets its pixels go.
void BatchEngine::State::hand_out(uint64_t number, Buffer<float> embeddings) {
  const Embeddings kept = vision_.put(number, std::move(embeddings));
  encodings_.erase(number);
  ++counts_.pictures_encoded;
  for (const auto& [id, other] : requests_) {
    for (size_t i = 0; i < other->pictures.size(); ++i) {
      if (other->pictures[i].number != number) continue;
      other->pictures[i].embeddings = kept;
      other->prompt.pictures[i].patches = {};
    }
  }
}

void BatchEngine::State::set_table(const StepSegment& segment, BatchRequest& request) {
  KvCache& cache = request.cache;
  cache.drop_blocks(segment.table_from);
  for (size_t i = 0; i < segment.table.size(); ++i) {
    cache.set_block(segment.table_from + static_cast<int64_t>(i), segment.table[i]);
  }
  if (cache.tokens() > segment.first) cache.truncate(segment.first);
  cache.found(segment.first);
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

void BatchEngine::State::forward(const Step& step, StepResults& results) {
  const int64_t width = config_.text.hidden_size;
  int64_t rows = 0;
  for (const StepSegment& segment : step.segments) rows += segment.count;
  hidden_.reserve(rows * width);
  segments_.clear();
  float* to = hidden_.data();
  for (const StepSegment& segment : step.segments) {
    BatchRequest& r = request(segment.request);
    if (!std::exchange(r.started, true) && r.callbacks.on_start) r.callbacks.on_start(segment.first);
    set_table(segment, r);
    embed(segment, r, to);
    segments_.push_back({&r.cache, segment.count, r.sequence.positions(segment.first, segment.count),
                         watching(r.answer.guard)});
    to += segment.count * width;
  }
  const Stopwatch watch;
  engine_.decoder.forward(hidden_.data(), segments_, scratch_);
  pace_.rows(rows, watch.seconds());
  counts_.rows += rows;
  for (size_t i = 0; i < segments_.size(); ++i) {
    if (!segments_[i].failure) continue;
    results.segments[i].ok = false;
    request(step.segments[i].request).failure = segments_[i].failure;
  }
  head(step, segments_);
  sample(step, results);
}

// The logits of the segments' last rows, as far as they are wanted.
void BatchEngine::State::head(const Step& step, std::span<Segment> segments) {
  const int64_t width = config_.text.hidden_size, vocab = config_.text.vocab_size;
  samplers_.clear();
  last_rows_.reserve(std::ssize(segments) * width);
  const float* row = hidden_.data();
  for (size_t i = 0; i < segments.size(); ++i) {
    row += segments[i].count * width;
    FOVEA_CHECK(step.segments[i].logits <= 1);  // no drafts were proposed
    if (step.segments[i].logits == 0 || segments[i].failure) continue;
    std::copy_n(row - width, width, last_rows_.data() + std::ssize(samplers_) * width);
    samplers_.push_back(&request(step.segments[i].request));
  }
  if (samplers_.empty()) return;
  logits_.reserve(std::ssize(samplers_) * vocab);
  failures_.assign(samplers_.size(), nullptr);
  engine_.decoder.logits(last_rows_.data(), std::ssize(samplers_), logits_.data(), scratch_, {}, failures_);
}

// A sampler is its request's own, so rows are sampled side by side.
void BatchEngine::State::sample(const Step& step, StepResults& results) {
  const int64_t vocab = config_.text.vocab_size;
  const auto row = [&](size_t i) {
    return std::span<const float>(logits_.data() + static_cast<int64_t>(i) * vocab,
                                  static_cast<size_t>(vocab));
  };
  sampled_.resize(samplers_.size());
  parallel_for(std::ssize(samplers_), [&](int64_t index) {
    const auto i = static_cast<size_t>(index);
    if (failures_[i]) return;
    try {
      sampled_[i] = samplers_[i]->sampler.next(row(i), samplers_[i]->sequence.ids());
    } catch (const Error&) {
      failures_[i] = std::current_exception();
    }
  });
  for (size_t s = 0, i = 0; s < step.segments.size() && i < samplers_.size(); ++s) {
    BatchRequest& r = request(step.segments[s].request);
    if (samplers_[i] != &r) continue;
    if (failures_[i]) {
      r.failure = failures_[i];
      results.segments[s].ok = false;
    } else {
      if (r.callbacks.on_token) r.callbacks.on_token(sampled_[i], row(i));
      take_token(r, sampled_[i], results.segments[s]);
    }
    ++i;
  }
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
    if (!is_wanted(picture.number)) encodings_.erase(picture.number);
  }
  if (ending.state == RequestState::failed) {
    FOVEA_CHECK(r.failure != nullptr);
    if (r.callbacks.on_failure) r.callbacks.on_failure(r.failure);
    return;
  }
  if (ending.state == RequestState::cancelled) r.answer.finish_reason = "cancelled";
  r.answer.kv_cache = r.cache.state();
  r.answer.text = r.text.finish();
  r.answer.timings.generated_tokens = std::ssize(r.answer.token_ids);
  if (r.callbacks.on_answer) r.callbacks.on_answer(std::move(r.answer));
}

BatchMetrics BatchEngine::State::metrics() const {
  BatchMetrics metrics = counts_;
  metrics.schedule = scheduler_.metrics();
  metrics.blocks = pool_.blocks();
  metrics.block_bytes = pool_.layout().block_bytes();
  for (const auto& [number, work] : encodings_) metrics.pixel_bytes += work.pixel_bytes();
  for (const auto& [id, live] : requests_) {
    for (const Picture& picture : live->prompt.pictures) {
      metrics.pixel_bytes += picture.patches.size() * int64_t{sizeof(float)};
    }
  }
  return metrics;
}

int64_t BatchEngine::block_bytes(const Engine& engine) { return layout_of(*engine.state_).block_bytes(); }

BatchEngine::BatchEngine(const Engine& engine, const BatchLimits& limits) {
  check_engine(engine.options());
  state_ = std::make_unique<State>(*engine.state_, limits);
}
BatchEngine::~BatchEngine() = default;

RequestId BatchEngine::add(Prompt prompt, const GenerationOptions& options, RequestCallbacks callbacks) {
  return state_->add(std::move(prompt), options, std::move(callbacks));
}
void BatchEngine::cancel(RequestId id) { state_->cancel(id); }
bool BatchEngine::step() { return state_->step(); }
std::optional<RequestState> BatchEngine::state(RequestId id) const { return state_->state(id); }
BatchMetrics BatchEngine::metrics() const { return state_->metrics(); }

}  // namespace fovea
