#include "library/shared_engine.h"

#include <utility>

#include "base/error.h"
#include "library/engine_options.h"
#include "library/errors.h"
#include "library/requests.h"
#include "runtime/logprobs.h"

namespace fovea {

namespace {

Engine open(const std::filesystem::path& model, const v0::EngineOptions& given, ThreadPool& pool) {
  EngineOptions options = engine_options_of(given);
  options.context = Context{&pool, process_context().kernels};
  Observer observer;
  observer.progress = given.progress;
  return Engine::open(model, options, observer);
}

// submit() counts who waits, also those that the batch engine has not seen yet.
BatchLimits with_room_for_all(BatchLimits limits) {
  limits.max_queue += limits.max_num_seqs;
  return limits;
}

}  // namespace

SharedEngine::SharedEngine(const std::filesystem::path& model, const v0::EngineOptions& given)
    : given_(given),
      pool_(threads_of(given)),
      engine_(open(model, given, pool_)),
      limits_(batch_limits_of(given, engine_)),
      grammars_(engine_.tokenizer()),
      batch_(engine_, with_room_for_all(limits_)) {}

v0::EngineInfo SharedEngine::info() const {
  const ModelConfig& config = engine_.checkpoint().config();
  return {.dtype = name_of(engine_.dtype()),
          .attn_implementation = name_of(engine_.options().attention),
          .vision_attn_implementation = name_of(engine_.options().vision_attention),
          .kernels = engine_.kernel_variant(),
          .threads = pool_.threads(),
          .vocab_size = config.text.vocab_size,
          .max_model_len = config.text.max_position_embeddings,
          .load_seconds = engine_.load_seconds(),
          .warnings = engine_.warnings()};
}

v0::EngineMetrics SharedEngine::metrics() const {
  const std::lock_guard lock(mutex_);
  v0::EngineMetrics metrics = metrics_;
  metrics.waiting += std::ssize(submitted_);
  return metrics;
}

v0::RequestId SharedEngine::submit(const v0::Request& request, const v0::Events& events,
                                   std::shared_ptr<Outcome> outcome) {
  Submitted submitted;
  submitted.options = generation_options_of(request, engine_.default_generation(), grammars_);
  submitted.cache_space = cache_space_of(request.cache_salt);
  submitted.prompt = engine_.prepare(messages_of(request, given_.resolve), {}, false);
  batch_.require_room(std::ssize(submitted.prompt.ids), submitted.options);
  const std::lock_guard lock(mutex_);
  if (broken_) std::rethrow_exception(broken_);
  if (std::ssize(live_) >= limits_.max_num_seqs + limits_.max_queue) {
    throw Error(ErrorKind::exhausted, fmt::format("{} requests are under way or wait", live_.size()),
                "ask again later, or raise max_queue");
  }
  const v0::RequestId id = ++last_;
  Live& live = live_[id];
  live.events = events;
  live.outcome = std::move(outcome);
  live.top_logprobs = request.top_logprobs;
  live.answer.prompt_tokens = std::ssize(submitted.prompt.ids);
  live.answer.warnings = submitted.prompt.warnings;
  submitted.live = &live;
  submitted_.push_back(std::move(submitted));
  return id;
}

void SharedEngine::cancel(v0::RequestId id) {
  const std::lock_guard lock(mutex_);
  if (live_.contains(id)) cancelled_.push_back(id);
}

bool SharedEngine::step() {
  std::unique_lock lock(mutex_);
  turn_.wait(lock, [&] { return !computing_; });
  if (live_.empty()) return false;
  computing_ = true;
  lock.unlock();
  compute();
  lock.lock();
  if (const std::exception_ptr thrown = std::exchange(thrown_, nullptr)) std::rethrow_exception(thrown);
  return true;
}

v0::Answer SharedEngine::generate(const v0::Request& request, const v0::Events& events) {
  const auto outcome = std::make_shared<Outcome>();
  wait_for(submit(request, events, outcome));
  if (outcome->failure) std::rethrow_exception(outcome->failure);
  return std::move(outcome->answer);
}

void SharedEngine::wait_for(v0::RequestId id) {
  for (;;) {
    std::unique_lock lock(mutex_);
    turn_.wait(lock, [&] { return !computing_ || !live_.contains(id); });
    if (!live_.contains(id)) return;
    computing_ = true;
    lock.unlock();
    compute();
  }
}

// A step, by the thread that has set computing_.
void SharedEngine::compute() {
  std::vector<Submitted> submitted;
  std::vector<Live*> cancelled;
  {
    const std::lock_guard lock(mutex_);
    submitted.swap(submitted_);
    for (const v0::RequestId id : std::exchange(cancelled_, {})) {
      if (const auto found = live_.find(id); found != live_.end()) cancelled.push_back(&found->second);
    }
  }
  std::exception_ptr broken;
  try {
    for (Submitted& request : submitted) start(std::move(request));
    for (Live* live : cancelled) cancel_now(*live);
    batch_.step();
  } catch (...) {
    broken = std::current_exception();
  }
  settle(broken);
}

// The end of a step: whose event threw is cancelled, who has ended is let go of, the next thread has its
// turn.
void SharedEngine::settle(const std::exception_ptr& broken) {
  std::vector<Live*> all;
  {
    const std::lock_guard lock(mutex_);
    broken_ = broken;
    for (auto& [id, live] : live_) all.push_back(&live);
    // Nobody computes those that have come meanwhile.
    if (broken) submitted_.clear();
  }
  for (Live* live : all) {
    if (broken && !live->over) failed(*live, broken);
    if (live->thrown && !live->over) cancel_now(*live);
  }
  const BatchMetrics batch = batch_.metrics();
  const std::lock_guard lock(mutex_);
  let_go_of_the_ended();
  metrics_.running = batch.schedule.in(RequestState::prefill) + batch.schedule.in(RequestState::decode);
  metrics_.waiting = std::ssize(live_) - std::ssize(submitted_) - metrics_.running;
  metrics_.steps = batch.steps;
  metrics_.rows = batch.rows;
  metrics_.kv_cache_bytes = batch.blocks * batch.block_bytes;
  computing_ = false;
  turn_.notify_all();
}

void SharedEngine::let_go_of_the_ended() {
  for (auto entry = live_.begin(); entry != live_.end();) {
    Live& live = entry->second;
    if (!live.over) {
      ++entry;
      continue;
    }
    if (live.outcome) {
      if (live.thrown) live.outcome->failure = live.thrown;
      live.outcome->answer = std::move(live.answer);
    } else if (live.thrown && !thrown_) {
      thrown_ = live.thrown;
    }
    metrics_.prompt_tokens += live.answer.prompt_tokens;
    metrics_.cached_tokens += live.answer.cached_tokens;
    entry = live_.erase(entry);
  }
}

void SharedEngine::start(Submitted submitted) {
  Live& live = *submitted.live;
  try {
    live.in_batch =
        batch_.add(std::move(submitted.prompt), submitted.options, callbacks(live), submitted.cache_space);
  } catch (const Error&) {
    failed(live, std::current_exception());
  }
}

void SharedEngine::cancel_now(Live& live) {
  if (live.in_batch && !live.over) batch_.cancel(*live.in_batch);
}

namespace {

// An event that throws is the last that its request hears of.
template <typename Event, typename... Arguments>
void tell(std::exception_ptr& thrown, const Event& event, const Arguments&... arguments) {
  if (!event || thrown) return;
  try {
    event(arguments...);
  } catch (...) {
    thrown = std::current_exception();
  }
}

}  // namespace

RequestCallbacks SharedEngine::callbacks(Live& live) {
  RequestCallbacks callbacks;
  callbacks.on_start = [&live](int64_t cached) {
    live.answer.cached_tokens = cached;
    tell(live.thrown, live.events.on_start, cached);
  };
  callbacks.on_text = [&live](std::string_view text) { tell(live.thrown, live.events.on_text, text); };
  if (live.events.on_token) {
    callbacks.on_token = [this, &live](int32_t id, std::span<const float> logits) {
      tell(live.thrown, live.events.on_token, token_of(live, id, logits));
    };
  }
  callbacks.on_answer = [this, &live](Answer answer) { answered(live, std::move(answer)); };
  callbacks.on_failure = [this, &live](const std::exception_ptr& failure) { failed(live, failure); };
  return callbacks;
}

v0::Token SharedEngine::token_of(const Live& live, int32_t id, std::span<const float> logits) const {
  const auto bytes = [&](int32_t token) { return std::string(engine_.tokenizer().token_bytes(token)); };
  v0::Token token{id, bytes(id), 0, {}};
  if (!live.top_logprobs) return token;
  const Logprobs logprobs = logprobs_of(logits, id, *live.top_logprobs);
  token.logprob = logprobs.chosen.logprob;
  for (const TokenLogprob& other : logprobs.top) {
    token.top.push_back({other.id, bytes(other.id), other.logprob});
  }
  return token;
}

void SharedEngine::answered(Live& live, Answer answer) {
  live.answer.text = std::move(answer.text);
  live.answer.token_ids = std::move(answer.token_ids);
  live.answer.finish_reason = std::move(answer.finish_reason);
  live.answer.vision_seconds = answer.timings.vision_s;
  live.answer.prefill_seconds = answer.timings.prefill_s;
  live.answer.decode_seconds = answer.timings.decode_s;
  live.over = true;
  tell(live.thrown, live.events.on_answer, live.answer);
}

void SharedEngine::failed(Live& live, const std::exception_ptr& failure) {
  const v0::Error error = public_error(failure);
  if (live.outcome) live.outcome->failure = std::make_exception_ptr(error);
  live.over = true;
  tell(live.thrown, live.events.on_error, error);
}

}  // namespace fovea
