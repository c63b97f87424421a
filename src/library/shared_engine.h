// One engine that many threads ask: whoever waits for an answer computes for all, one thread at a time.
#pragma once

#include <fovea/engine.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/thread_pool.h"
#include "grammar/grammar_compiler.h"
#include "runtime/batch_engine.h"

namespace fovea {

// Requests come to the batch engine, which is for one thread, through `submitted_`; the thread that computes
// takes them from there before each step. The mutex is never held while something is computed or an event is
// called. Throws what the engine throws; engine.cc makes public errors of it.
class SharedEngine {
 public:
  SharedEngine(const std::filesystem::path& model, const v0::EngineOptions& given);
  SharedEngine(const SharedEngine&) = delete;

  v0::EngineInfo info() const;
  v0::EngineMetrics metrics() const;
  v0::RequestId submit(const v0::Request& request, const v0::Events& events) {
    return submit(request, events, nullptr);
  }
  void cancel(v0::RequestId id);
  bool step();
  v0::Answer generate(const v0::Request& request, const v0::Events& events);

 private:
  // How a request ended, for the thread that waits for it.
  struct Outcome {
    v0::Answer answer;
    std::exception_ptr failure;
  };
  // Those under way. What is in them belongs to the thread that computes, once it has taken them.
  struct Live {
    v0::Events events;
    std::optional<int64_t> top_logprobs;
    std::shared_ptr<Outcome> outcome;  // null: nobody waits
    v0::Answer answer;
    std::optional<RequestId> in_batch;
    bool over = false;
    std::exception_ptr thrown;  // by an event: it hears no more
  };
  struct Submitted {
    Live* live = nullptr;
    Prompt prompt;
    GenerationOptions options;
    uint64_t cache_space = 0;
  };

  v0::RequestId submit(const v0::Request& request, const v0::Events& events,
                       std::shared_ptr<Outcome> outcome);
  void wait_for(v0::RequestId id);
  void compute();
  void start(Submitted submitted);
  void cancel_now(Live& live);
  RequestCallbacks callbacks(Live& live);
  v0::Token token_of(const Live& live, int32_t id, std::span<const float> logits) const;
  void answered(Live& live, Answer answer);
  void failed(Live& live, const std::exception_ptr& failure);
  void settle(const std::exception_ptr& broken);
  void let_go_of_the_ended();

  v0::EngineOptions given_;
  ThreadPool pool_;
  Engine engine_;
  BatchLimits limits_;
  GrammarCompiler grammars_;
  std::map<v0::RequestId, Live> live_;  // the map under mutex_
  BatchEngine batch_;                   // its callbacks point into live_

  mutable std::mutex mutex_;
  std::condition_variable turn_;  // nobody computes any more
  bool computing_ = false;
  std::vector<Submitted> submitted_;
  std::vector<v0::RequestId> cancelled_;
  v0::RequestId last_ = 0;
  v0::EngineMetrics metrics_;
  std::exception_ptr broken_;  // a step failed for all: nothing can be computed any more
  std::exception_ptr thrown_;  // by an event of a request that nobody waits for
};

}  // namespace fovea
