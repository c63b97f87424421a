// The engine: a loaded checkpoint that answers conversations with images and videos. This is the API that the
// command line uses and that a server or a Python module will use.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attention/guard.h"
#include "attention/problem.h"
#include "base/precision.h"
#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "kernels/context.h"
#include "media/media.h"
#include "model/kv_cache.h"
#include "model/layer_observer.h"
#include "model/positions.h"
#include "model/tensor_shard.h"
#include "model/weight_store.h"
#include "policy/precision_policy.h"
#include "runtime/device_map.h"
#include "runtime/sampler.h"
#include "text/message.h"
#include "text/tokenizer.h"

namespace fovea {

inline constexpr int64_t kVisionBudgetBytes = int64_t{256} << 20;

class Communicator;

struct EngineOptions;
// The bytes that apply: those asked for, or the default.
int64_t vision_budget_of(const EngineOptions& options);

// How several ranks compute one request together (runtime/pipeline.h).
struct SplitModel {
  DeviceMap map;
  Communicator* ranks = nullptr;  // borrowed
};

struct EngineOptions {
  // Threads and kernels that the engine computes on, borrowed; nothing: the process's own. Read when the
  // folder is opened; engines of Engine::with share it.
  std::optional<Context> context = std::nullopt;
  AttentionKind attention = AttentionKind::flash_attention_2;         // text decoder
  AttentionKind vision_attention = AttentionKind::flash_attention_2;  // vision tower
  std::optional<DType> dtype = std::nullopt;                          // nothing: the checkpoint's own
  // Nodes that differ from what the attentions compute in the dtype. Its preset, if it has one, takes the
  // place of both attentions; a dtype that contradicts it is refused.
  std::optional<PrecisionPolicy> policy = std::nullopt;
  // In place of the checkpoint's chat template, which must be a known one: a file, or "qwen2.5-vl". Read when
  // the folder is opened.
  std::string chat_template = {};
  // Watches for attention scores that their dtype cannot resolve; Answer and Evaluation hold what it saw.
  GuardOptions guard = {};
  // The vision tower works image by image, and takes as many groups of a video's frames at once as fit into
  // this, but at least one. No result depends on it. 0: kVisionBudgetBytes, or what with() found.
  int64_t vision_budget_bytes = 0;
  // Nothing: all weights are mapped. Otherwise they are streamed from the checkpoint's files within this,
  // past the page cache; no result depends on it. Not with a policy that quantizes them.
  std::optional<WeightLimit> weight_limit = std::nullopt;
  // Where streamed weights come from; nothing: the checkpoint's files.
  std::function<std::unique_ptr<WeightSource>(const Checkpoint&)> weight_source = {};
  // Keys and values beyond its bytes lie on disk; no result depends on it. Nothing: all are in memory. Not
  // with `split`.
  std::optional<KvOffload> kv_offload = std::nullopt;
  // The decoder's part of this rank. With several ranks all of them make the same calls with the same
  // arguments and get the same results; there is no speculation, whose steps depend on the clock, no guard
  // and no cancelling.
  TensorShard tensor_parallel = {};
  // With tensor_parallel, borrowed: a BatchEngine of rank 0 decides alone, and cancels as it likes, while the
  // others serve().
  Communicator* ranks = nullptr;
  // Each rank holds and computes some parts of the model; makes the map of the checkpoint and the ranks.
  // Rank 0 is asked, the others serve(). No result depends on it. Not with a guard, layer observers or
  // streamed weights; speculation is off.
  std::function<SplitModel(const Checkpoint&)> split = {};
};

// What a policy is applied to: the options beside it, and the checkpoint's own dtype, layers and storage.
PolicyTarget policy_target(const EngineOptions& options, const Checkpoint& checkpoint);

struct MediaLimits {
  std::optional<int64_t> min_pixels, max_pixels;
  // Of each image or group of video frames, and of all of them together (media/token_budget.h has the rule).
  std::optional<int64_t> max_image_tokens, max_total_image_tokens;
  std::optional<double> fps;
  MediaOptions::Resize resize = MediaOptions::Resize::pil;
  VideoPositions video_positions = VideoPositions::qwen;
};

// Tokens that may come next: at most `most`, given every id so far, prompt included.
using ProposeFn = std::function<std::vector<int32_t>(std::span<const int32_t> ids, int64_t most)>;

struct GenerationOptions {
  SamplingOptions sampling;
  int64_t max_new_tokens = 512;
  std::vector<std::string> stop;  // strings that end the answer and are not part of it
  std::vector<int64_t> eos_token_ids;
  bool ignore_eos = false;
  bool use_kv_cache = true;     // false: every token recomputes the whole sequence
  int64_t prefill_chunk = 512;  // tokens per forward call; 0: the whole prompt at once
  // Speculation: tokens that followed the same words before are verified in one forward call. It never
  // changes a token. Nothing: as many as pay, measured in this request, and none where use_kv_cache, a guard
  // or a layer observer leaves no room for it; 0: none; else up to so many after every match.
  std::optional<int64_t> prompt_lookup_num_tokens;
  ProposeFn propose;  // takes the place of prompt lookup; wants prompt_lookup_num_tokens
  // What the checkpoint asks for and fovea does not do (GenerationConfig): generate() refuses other methods,
  // and other sampling unless the answer is greedy.
  std::vector<std::string> other_sampling, other_methods;

  // Greedy because the caller wants it so: then other methods count no more than other sampling.
  void choose_greedy();
  // A sentence for each of these settings that a greedy answer does not use.
  std::vector<std::string> unused() const;
};

// A conversation made ready for the model.
struct Prompt {
  std::string text;               // the rendered template, one pad token per item
  std::vector<int32_t> ids;       // pads expanded to each item's token count
  std::vector<Picture> pictures;  // in order of appearance
  Positions positions;
  VideoPositions video_positions = VideoPositions::qwen;  // the rule they follow
  // Pictures that the request's limits made too small to be read well; fields that the model is not shown.
  std::vector<std::string> warnings;
  double preprocess_seconds = 0;
};

struct MeasuredPrompt {
  std::vector<int32_t> ids;
  std::vector<Picture> pictures;  // without patches
};

struct Timings {
  double load_s = 0, preprocess_s = 0, vision_s = 0, prefill_s = 0, decode_s = 0;
  int64_t prompt_tokens = 0, generated_tokens = 0;
  // Weights fetched meanwhile, where they are streamed.
  int64_t vision_fetched_bytes = 0, prefill_fetched_bytes = 0, decode_fetched_bytes = 0;
};

// What speculation did to an answer. generated_tokens - accepted forward calls made it.
struct Speculation {
  int64_t proposed = 0;  // tokens that were verified
  int64_t accepted = 0;  // of these, those that saved a forward call
  int64_t steps = 0;     // forward calls that verified
};

struct Answer {
  std::string text;
  std::vector<int32_t> token_ids;  // generated, a final EOS included
  std::string finish_reason;       // "stop", "length" or "cancelled"
  Timings timings;
  GuardReport guard;
  Speculation speculation;
  KvState kv_cache;
};

// How a caller follows a running request; every member may be empty.
struct Observer {
  ProgressFn progress;                            // "load", "vision", "prefill"
  std::function<void(std::string_view)> on_text;  // pieces of the answer, whole characters only
  const std::atomic<bool>* cancel = nullptr;      // ends the answer after the current token
  LayerObserver* layers = nullptr;                // sees every layer of the forward passes
};

// What `fovea logits` writes.
struct Evaluation {
  Buffer<float> vision_embeddings;  // [vision tokens of all items, hidden]
  Buffer<float> logits;             // [ids, vocab]
  GuardReport guard;
};

// Called with a request's tokens and its pictures, measured but not loaded, and how they will be loaded; may
// throw, which refuses the request before anything large is made.
using PromptCheck =
    std::function<void(int64_t tokens, std::span<const Picture>, std::span<const MediaOptions>)>;

// How a picture is read under the checkpoint's rules, the request's limits, and those of its own part of the
// conversation; without limits in tokens.
MediaOptions media_options(const PreprocessorConfig& config, const MediaLimits& limits,
                           const ContentPart& part);

struct EngineState;

class Engine {
 public:
  // Opens the folder, or the GGUF files, and prepares the weights. Throws Error naming what is wrong.
  static Engine open(const ModelFiles& files, const EngineOptions& options, const Observer& observer);
  // The same checkpoint computed differently: files, tokenizer and converted weights are shared, nothing is
  // read again. Both engines live on their own; weights that only one of them uses go with it. Budgets of
  // memory that `options` do not state are this engine's. Not with EngineOptions::split.
  Engine with(const EngineOptions& options) const;
  // Requests from now on run with weights streamed within `limit`, which may differ from request to request,
  // also of engines that share a checkpoint. Not while one runs. Throws Error(unsupported) when weights are
  // quantized.
  void limit_weights(const WeightLimit& limit) const;
  // With EngineOptions::kv_offload: what keys and values may occupy, from the next request on.
  void limit_kv_cache(int64_t bytes) const;
  // What of the weights is in memory and what is streamed; all zero when they are mapped.
  StreamState stream_state() const;
  bool streams_weights() const;
  // Checkpoint, options and kernels: what ranks that compute one request together must have in common.
  uint64_t identity() const;
  // With EngineOptions::split or ranks. Ranks other than 0: computes for rank 0 until it releases them.
  void serve() const;
  // Rank 0, after its last request.
  void release_ranks() const;
  // How many requests keep all ranks of a split model busy; 1 without one.
  int64_t requests_at_once() const;
  // Calls work(0) to work(count - 1), with EngineOptions::split at rank 0 on threads that take turns: one
  // that waits for another rank lets the next work. Everything else is as if they were called one after the
  // other in some order, except that a turn may end within generate() and whatever Session does. Rethrows the
  // first exception when all have ended.
  void side_by_side(int64_t count, const std::function<void(int64_t)>& work) const;
  // Nothing without EngineOptions::split.
  const DeviceMap* device_map() const;
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  const Checkpoint& checkpoint() const;
  const Tokenizer& tokenizer() const;
  // As asked for, except that attention and vision_attention are the resolved ones of the towers, and that
  // budgets are those that apply.
  const EngineOptions& options() const;
  DType dtype() const;
  // Every node of every layer, as resolved.
  const Precision& precision() const;
  double load_seconds() const;
  // What was found odd, and harmless, while the folder was read: a sentence each, to be shown to the user.
  std::vector<std::string> warnings() const;
  // Which kernels this process uses: "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16" or
  // "amx".
  const char* kernel_variant() const;
  // What it computes on.
  const Context& context() const;
  // The checkpoint's own generation settings, with max_new_tokens 512 where it states none.
  GenerationOptions default_generation() const;

  // Renders the template, decodes the media, expands the pads. Throws Error(exhausted) when the prompt
  // exceeds the model's context. With limits in tokens or a check, pictures are first measured: still ones
  // are then decoded twice.
  Prompt prepare(const std::vector<Message>& conversation, const MediaLimits& limits, bool add_vision_id,
                 const PromptCheck& check = {}) const;

  // What prepare() would make, as far as its ids and the pictures' sizes go: they are measured, but no
  // patches are made of them.
  MeasuredPrompt measure(const std::vector<Message>& conversation, const MediaLimits& limits,
                         bool add_vision_id) const;
  // A prompt without the chat template and without pictures: text whose added tokens are recognised, or its
  // ids. Throws Error(invalid_argument) when it is empty, holds a picture's pad or an id that is no token,
  // Error(exhausted) when it exceeds the model's context.
  Prompt prepare_text(std::string_view text) const;
  Prompt prepare_ids(std::vector<int32_t> ids) const;

  Answer generate(const Prompt& prompt, const GenerationOptions& options, const Observer& observer) const;

  // The embeddings of the prompt's pictures, [tokens, hidden]: they depend on the vision tower's precision
  // and attention alone, so engines that share these can share them. Not cancellable in between.
  Buffer<float> encode(const Prompt& prompt, const Observer& observer) const;

  // Logits of every position of the prompt.
  Evaluation evaluate(const Prompt& prompt, int64_t prefill_chunk, const Observer& observer) const;

 private:
  friend class Session;
  friend class BatchEngine;
  explicit Engine(std::unique_ptr<EngineState> state);
  std::unique_ptr<EngineState> state_;
};

}  // namespace fovea
