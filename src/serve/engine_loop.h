// The one thread that computes: it takes requests that are ready, steps a BatchEngine, and tells what comes
// of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/batch_engine.h"
#include "serve/trace.h"

namespace fovea {

// Hears of one request, on the engine's thread; never blocks it.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  // False when nobody wants the answer any more: it is then cancelled.
  virtual bool wanted() const = 0;
  virtual void accepted() = 0;  // it waits for its turn
  virtual void on_start(size_t choice, int64_t cached_tokens) = 0;
  virtual void on_token(size_t choice, int32_t id, std::span<const float> logits) = 0;
  virtual void on_text(size_t choice, std::string_view text) = 0;
  virtual void on_answer(size_t choice, Answer answer) = 0;
  // In place of on_end(), once: no answer of the request is of use.
  virtual void on_failure(const std::exception_ptr& failure) = 0;
  virtual void on_end() = 0;  // all choices have answered
};

struct Generation {
  std::vector<Prompt> prompts;
  std::vector<GenerationOptions>
      options;  // of each prompt's choices, which are numbered from prompt to prompt
  uint64_t cache_space = 0;
  std::shared_ptr<AnswerSink> sink;
};

class EngineLoop {
 public:
  // The engine is borrowed. `trace`: null, or where steps are written to.
  EngineLoop(const Engine& engine, const BatchLimits& limits, StepTrace* trace);

  // Any thread.
  void submit(Generation generation);
  void wake();  // somebody may be gone
  void require_room(int64_t prompt_tokens, const GenerationOptions& options) const;
  BatchMetrics metrics() const;  // as of the last step
  int64_t pixel_bytes() const;   // of pictures that wait to be encoded
  // Called behind every step, from the engine's thread.
  void behind_each_step(std::function<void()> call) { behind_step_ = std::move(call); }

  // The engine's thread: works until go_on() is false, which is asked at least ten times a second while there
  // is nothing to do, and behind every step.
  void run(const std::function<bool()>& go_on);
  // Ends all requests with this failure.
  void fail_all(const std::exception_ptr& failure);
  // Lets go of all requests, whose clients get an error; nothing is to be done any more.
  void drop_all();

 private:
  struct Live {
    std::shared_ptr<AnswerSink> sink;
    std::vector<RequestId> ids;
    size_t unanswered = 0;
    bool cancelled = false, failed = false;
    std::exception_ptr failure;  // not told yet
  };

  bool take_submitted(bool wait);
  void start(Generation generation);
  RequestCallbacks callbacks(Live& live, size_t choice);
  void look_after(Live& live);
  void look_after_all();

  std::list<Live> live_;  // callbacks point into it; it outlives the engine of the batch
  BatchEngine batch_;
  StepTrace* trace_;
  std::function<void()> behind_step_;
  mutable std::mutex mutex_;
  std::condition_variable submitted_here_;
  std::vector<Generation> submitted_;
  int64_t submitted_pixels_ = 0;  // bytes
  bool woken_ = false;
  BatchMetrics metrics_;
};

}  // namespace fovea
