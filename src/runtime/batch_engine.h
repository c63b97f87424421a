// Many requests on one engine. They share its weights, the blocks of keys and values of what they have in
// common, and the embeddings of equal pictures; a step computes rows of many of them together. Whatever a
// request's company, its tokens and logits are those it gets alone, bit for bit.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "media/picture_digest.h"
#include "runtime/engine.h"
#include "schedule/scheduler.h"

namespace fovea {

struct BatchLimits {
  int64_t max_num_seqs = 16;             // requests that run at once
  int64_t max_num_batched_tokens = 512;  // rows of a step
  int64_t max_queue = 1024;              // requests that wait
  int64_t kv_cache_bytes = 0;            // of the blocks of keys and values; memory is taken as they are used
  int64_t vision_cache_bytes = kVisionBudgetBytes;  // embeddings of pictures that no request needs any more
  // What a step may take while somebody waits for his next token: prompts and pictures are cut to it, as far
  // as they were measured. No result depends on it.
  double step_seconds = 0.5;
  // How pictures are told apart. Tests hand in one that cannot.
  Digest (*digest)(const Picture&) = digest_of;
};

// Called on the thread that calls step() or cancel(); none may call the engine again. All may be empty.
struct RequestCallbacks {
  // Its first rows are computed: so many tokens of the prompt were known, from other requests.
  std::function<void(int64_t cached_tokens)> on_start = {};
  std::function<void(std::string_view)> on_text = {};  // pieces of the answer, whole characters only
  // A token of the answer and the row of logits it was taken from, [vocab], as the model gave them.
  std::function<void(int32_t id, std::span<const float> logits)> on_token = {};
  std::function<void(Answer)> on_answer = {};                      // done or cancelled
  std::function<void(const std::exception_ptr&)> on_failure = {};  // in its place: an Error
};

// One of several answers to a prompt.
struct AnswerChoice {
  GenerationOptions options;
  RequestCallbacks callbacks;
};

struct BatchMetrics {
  SchedulerMetrics schedule;
  int64_t steps = 0, rows = 0;
  int64_t pictures_encoded = 0, picture_hits = 0;
  int64_t block_bytes = 0, blocks = 0;
  int64_t pixel_bytes = 0;  // of pictures that wait to be encoded
};

struct BatchJob;

// For one thread at a time. Where weights are streamed, or keys and values lie on disk, whole prompts go
// layer by layer, in pieces of max_num_batched_tokens: what comes from disk is read once for all requests of
// a step. That is of one process: throws Error(unsupported) naming the option where several ranks compute.
class BatchEngine {
 public:
  // The engine is borrowed. With EngineOptions::split, or tensor_parallel and ranks, on rank 0, while the
  // others serve(): one at a time, and nothing else is asked of the engine while it lives.
  BatchEngine(const Engine& engine, const BatchLimits& limits);
  BatchEngine(const BatchEngine&) = delete;
  ~BatchEngine();

  // What a block of kPageTokens tokens takes in an engine's KV cache; over ranks, of the one that needs most.
  static int64_t block_bytes(const Engine& engine);

  // Throws Error(exhausted) when the queue is full or the request is larger than all blocks,
  // Error(invalid_argument) as Engine::generate does. Requests of another `cache_space` share neither blocks
  // nor embeddings with this one, so that no time tells them what it asked.
  RequestId add(Prompt prompt, const GenerationOptions& options, RequestCallbacks callbacks,
                uint64_t cache_space = 0);
  // A request for each choice; they share the pictures. Where one is refused, those before it are cancelled.
  std::vector<RequestId> add(Prompt prompt, std::vector<AnswerChoice> choices, uint64_t cache_space = 0);
  // Throws Error(exhausted), as add() would, for a prompt and its longest answer. Any thread.
  void require_room(int64_t prompt_tokens, const GenerationOptions& options) const;
  // Its answer so far goes to on_answer, now or at the end of the step under way. An unknown id is ignored:
  // the request may just have ended.
  void cancel(RequestId id);
  // Of one that is not over; nothing of another.
  std::optional<RequestState> state(RequestId id) const;
  // Computes a step; false when there is nothing to do. What belongs to no request (no memory, a lost rank)
  // is thrown, has then ended all requests, and is thrown again from then on.
  bool step();

  BatchMetrics metrics() const;

 private:
  friend class SoloRun;
  class State;

  // `piece` rows of prompts go through a layer at once, 0: all of a step. The engine is borrowed.
  BatchEngine(const EngineState& engine, const BatchLimits& limits, int64_t piece, const Observer& follower);
  RequestId add(BatchJob job);

  std::unique_ptr<State> state_;
};

}  // namespace fovea
