#include "runtime/batch_engine.h"

#include <unordered_set>
#include <utility>

#include "runtime/batch_state.h"
#include "runtime/local_executor.h"
#include "runtime/ranks_executor.h"

namespace fovea {

namespace {

void refuse(const char* option, const char* remedy) {
  throw Error(ErrorKind::unsupported,
              fmt::format("many requests at once over several ranks and {} exclude each other", option),
              remedy);
}

bool over_ranks(const EngineState& engine) {
  return engine.pipeline || !engine.options.tensor_parallel.whole();
}

std::unique_ptr<Executor> executor_of(const EngineState& engine, int64_t kv_cache_bytes) {
  if (!over_ranks(engine)) return local_executor(engine, kv_cache_bytes);
  if (engine.options.weight_limit) refuse("streamed weights", "leave out --ram");
  if (engine.options.kv_offload)
    refuse("--kv-offload", "leave out --kv-offload, and give less to the KV cache");
  if (!engine.pipeline && engine.options.ranks == nullptr)
    refuse("tensor_parallel without EngineOptions::ranks", "say who the ranks are");
  return ranks_executor(engine, kv_cache_bytes);
}

}  // namespace

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
  if (broken_) std::rethrow_exception(broken_);
  for (const AnswerChoice& choice : choices) check_options(choice.options, engine_.parts->checkpoint);
  const std::vector<PlacedPicture> placed = place_pictures(prompt, config_, vision_, cache_space, digest_);
  Request order;
  order.root = cache_space << 1 | static_cast<uint64_t>(prompt.video_positions);
  order.tokens = identities_of(prompt, placed);
  const auto shown = std::make_shared<ShownPictures>();
  shown->pictures = std::move(prompt.pictures);
  std::vector<RequestId> ids;
  try {
    for (AnswerChoice& choice : choices) {
      BatchJob job{words_of(prompt), std::move(choice.options), std::move(choice.callbacks)};
      job.proposals = proposals_for(job.options, false, engine_.options);
      auto live = std::make_unique<BatchRequest>(next_id_++, engine_, std::move(job));
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

RequestId BatchEngine::State::add(BatchJob job) {
  if (broken_) std::rethrow_exception(broken_);
  check_options(job.options, engine_.parts->checkpoint);
  auto live = std::make_unique<BatchRequest>(next_id_++, engine_, std::move(job));
  const RequestId id = live->id;
  Request order;
  order.root = static_cast<uint64_t>(live->job.prompt.video_positions);
  order.tokens = identities_of(live->job.prompt, live->pictures);
  arrive(std::move(live), std::move(order));
  return id;
}

// `order`: all but what is the request's own.
void BatchEngine::State::arrive(std::unique_ptr<BatchRequest> live, Request order) {
  BatchRequest& r = *live;
  order.id = r.id;
  order.max_new_tokens = r.measures() ? 1 : r.most_new_tokens();
  order.sharable = r.job.sharable;
  if (order.max_new_tokens <= 0) {
    r.finish_answer();
    if (r.job.callbacks.on_answer) r.job.callbacks.on_answer(std::move(r.answer));
    return;
  }
  if (!r.measures()) require_room(r.sequence.size(), r.job.options);
  if (const auto& offload = engine_.options.kv_offload) {
    const KvState state =
        KvCache::state_for(engine_.decoder.config(), r.capacity(), engine_.precision.text.layers,
                           offload->bytes, engine_.options.guard.mode != GuardMode::off);
    r.on_disk = state.layers_on_disk > 0;
    order.sharable = 0;  // its cache is its own
  }
  if (r.shown) show(r, order);
  const std::optional<Refusal> refusal = scheduler_.arrive(std::move(order));
  FOVEA_CHECK(refusal != Refusal::never_fits);
  if (refusal) throw Error(ErrorKind::exhausted, "too many requests wait", "ask again later");
  requests_[r.id] = std::move(live);
}

void BatchEngine::State::show(BatchRequest& r, Request& order) {
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
}

void BatchEngine::State::cancel(RequestId id) {
  if (!requests_.contains(id)) return;
  if (scheduler_.cancel(id) == Cancellation::now) end({id, RequestState::cancelled});
}

void BatchEngine::State::end(const Ending& ending) {
  auto node = requests_.extract(ending.request);
  BatchRequest& r = *node.mapped();
  for (const PlacedPicture& picture : r.pictures) {
    if (!is_wanted(picture.number)) executor_->drop_picture(picture.number);
  }
  r.answer.kv_cache = executor_->kv_state(r.id);
  executor_->forget(r.id);
  if (ending.state == RequestState::failed && !r.interrupted) {
    FOVEA_CHECK(r.failure != nullptr);
    if (r.job.callbacks.on_failure) r.job.callbacks.on_failure(r.failure);
    return;
  }
  if (ending.state == RequestState::cancelled) r.interrupted = true;
  r.finish_answer();
  if (r.job.callbacks.on_answer) r.job.callbacks.on_answer(std::move(r.answer));
}

BatchMetrics BatchEngine::State::metrics() const {
  BatchMetrics metrics = counts_;
  metrics.schedule = scheduler_.metrics();
  metrics.blocks = executor_->blocks();
  metrics.block_bytes = executor_->block_bytes();
  metrics.pixel_bytes = executor_->pixel_bytes();
  std::unordered_set<const ShownPictures*> counted;
  for (const auto& [id, live] : requests_) {
    if (!live->shown || !counted.insert(live->shown.get()).second) continue;
    for (const Picture& picture : live->shown->pictures) {
      metrics.pixel_bytes += picture.patches.size() * int64_t{sizeof(float)};
    }
  }
  return metrics;
}

int64_t BatchEngine::block_bytes(const Engine& engine) {
  const EngineState& state = *engine.state_;
  return over_ranks(state) ? block_bytes_of_ranks(state) : kv_layout(state).block_bytes();
}

BatchEngine::BatchEngine(const Engine& engine, const BatchLimits& limits)
    : state_(std::make_unique<State>(*engine.state_, executor_of(*engine.state_, limits.kv_cache_bytes),
                                     limits, over_ranks(*engine.state_) ? 0 : limits.max_num_batched_tokens,
                                     Observer())) {}
BatchEngine::BatchEngine(const EngineState& engine, const BatchLimits& limits, int64_t piece,
                         const Observer& follower)
    : state_(std::make_unique<State>(engine, local_executor(engine, limits.kv_cache_bytes), limits, piece,
                                     follower)) {}
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
RequestId BatchEngine::add(BatchJob job) { return state_->add(std::move(job)); }
void BatchEngine::cancel(RequestId id) { state_->cancel(id); }
bool BatchEngine::step() { return state_->step(); }
std::optional<RequestState> BatchEngine::state(RequestId id) const { return state_->state(id); }
BatchMetrics BatchEngine::metrics() const { return state_->metrics(); }

}  // namespace fovea
