#include "serve/engine_loop.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"

namespace fovea {

namespace {

int64_t pixels_in(const Generation& generation) {
  int64_t bytes = 0;
  for (const Prompt& prompt : generation.prompts) {
    for (const Picture& picture : prompt.pictures) bytes += picture.patches.size() * int64_t{sizeof(float)};
  }
  return bytes;
}

}  // namespace

EngineLoop::EngineLoop(const Engine& engine, const BatchLimits& limits, StepTrace* trace)
    : batch_(engine, limits), trace_(trace), metrics_(batch_.metrics()) {}

void EngineLoop::submit(Generation generation) {
  {
    const std::lock_guard lock(mutex_);
    submitted_pixels_ += pixels_in(generation);
    submitted_.push_back(std::move(generation));
  }
  submitted_here_.notify_one();
}

void EngineLoop::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  submitted_here_.notify_one();
}

void EngineLoop::require_room(int64_t prompt_tokens, const GenerationOptions& options) const {
  batch_.require_room(prompt_tokens, options);
}

BatchMetrics EngineLoop::metrics() const {
  const std::lock_guard lock(mutex_);
  return metrics_;
}

int64_t EngineLoop::pixel_bytes() const {
  const std::lock_guard lock(mutex_);
  return metrics_.pixel_bytes + submitted_pixels_;
}

void EngineLoop::run(const std::function<bool()>& go_on) {
  bool worked = true;
  while (go_on()) {
    take_submitted(!worked);
    look_after_all();
    const BatchMetrics before = batch_.metrics();
    const auto start = StepTrace::Clock::now();
    worked = batch_.step();
    const BatchMetrics now = batch_.metrics();
    if (worked && trace_ != nullptr) trace_->step(start, before, now);
    {
      const std::lock_guard lock(mutex_);
      metrics_ = now;
    }
    look_after_all();
    if (behind_step_) behind_step_();
  }
}

bool EngineLoop::take_submitted(bool wait) {
  constexpr auto kAtMost = std::chrono::milliseconds(50);
  std::vector<Generation> taken;
  {
    std::unique_lock lock(mutex_);
    if (wait) submitted_here_.wait_for(lock, kAtMost, [&] { return woken_ || !submitted_.empty(); });
    woken_ = false;
    taken = std::exchange(submitted_, {});
  }
  int64_t pixels = 0;
  for (Generation& generation : taken) {
    pixels += pixels_in(generation);
    start(std::move(generation));
  }
  const BatchMetrics now = batch_.metrics();
  const std::lock_guard lock(mutex_);
  submitted_pixels_ -= pixels;
  metrics_ = now;
  return !taken.empty();
}

void EngineLoop::start(Generation generation) {
  Live& live = live_.emplace_back();
  live.sink = std::move(generation.sink);
  live.unanswered = generation.prompts.size() * generation.options.size();
  if (!live.sink->wanted()) {
    live.unanswered = 0;
    live.cancelled = true;
    return;
  }
  size_t choice = 0;
  try {
    for (Prompt& prompt : generation.prompts) {
      std::vector<AnswerChoice> choices;
      for (const GenerationOptions& options : generation.options) {
        choices.push_back({options, callbacks(live, choice++)});
      }
      const size_t before = live.ids.size();
      const auto ids = batch_.add(std::move(prompt), std::move(choices), generation.cache_space);
      live.ids.insert(live.ids.end(), ids.begin(), ids.end());
      choice = before + ids.size();
    }
    live.sink->accepted();
  } catch (...) {
    // Those of this prompt that came in have been told that they are cancelled; others never will be.
    live.failure = std::current_exception();
    live.unanswered = std::min(live.unanswered, live.ids.size());
  }
}

RequestCallbacks EngineLoop::callbacks(Live& live, size_t choice) {
  RequestCallbacks callbacks;
  callbacks.on_start = [&live, choice](int64_t cached) { live.sink->on_start(choice, cached); };
  callbacks.on_text = [&live, choice](std::string_view text) { live.sink->on_text(choice, text); };
  callbacks.on_token = [&live, choice](int32_t id, std::span<const float> logits) {
    live.sink->on_token(choice, id, logits);
  };
  callbacks.on_answer = [&live, choice](Answer answer) {
    if (live.unanswered > 0) --live.unanswered;
    if (!live.failed && !live.failure && !live.cancelled) live.sink->on_answer(choice, std::move(answer));
  };
  callbacks.on_failure = [&live](const std::exception_ptr& failure) {
    if (live.unanswered > 0) --live.unanswered;
    if (!live.failure) live.failure = failure;
  };
  return callbacks;
}

// Failures are told here, and cancelling is done here: callbacks must not call the engine.
void EngineLoop::look_after(Live& live) {
  if (live.failure && !live.failed && !live.cancelled) {
    live.failed = true;
    live.sink->on_failure(live.failure);
  }
  if (!live.failed && !live.cancelled && live.sink->wanted()) return;
  if (std::exchange(live.cancelled, true)) return;
  for (const RequestId id : live.ids) batch_.cancel(id);
}

void EngineLoop::look_after_all() {
  for (auto live = live_.begin(); live != live_.end();) {
    look_after(*live);
    if (live->unanswered > 0) {
      ++live;
      continue;
    }
    if (!live->failed && !live->cancelled) live->sink->on_end();
    live = live_.erase(live);
  }
}

void EngineLoop::drop_all() {
  const std::lock_guard lock(mutex_);
  submitted_.clear();
  live_.clear();
}

void EngineLoop::fail_all(const std::exception_ptr& failure) {
  take_submitted(false);
  for (Live& live : live_) {
    if (!live.failure) live.failure = failure;
  }
  look_after_all();
  while (batch_.step()) {  // what was cancelled in the midst of a step ends with it
  }
  look_after_all();
}

}  // namespace fovea
