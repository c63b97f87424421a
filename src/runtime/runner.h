// One sequence on its way through the decoder; private to runtime.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "model/kv_cache.h"
#include "runtime/state.h"

namespace fovea {

// A token sequence and its three position rows, extended as tokens are generated.
class Sequence {
 public:
  explicit Sequence(const Prompt& prompt)
      : ids_(prompt.ids), positions_(prompt.positions), prompt_size_(size()) {}

  // Room for `size` tokens without another allocation.
  void reserve(int64_t size);
  void append(int32_t id);
  // Forgets the last tokens, none of which may be of the prompt.
  void truncate(int64_t size);
  const std::vector<int32_t>& ids() const { return ids_; }
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  int64_t prompt_size() const { return prompt_size_; }
  std::array<std::span<const int64_t>, 3> positions(int64_t first, int64_t count) const;

 private:
  std::vector<int32_t> ids_;
  Positions positions_;
  int64_t prompt_size_;
};

// For one sequence of at most `capacity` tokens; with a split model also on the other ranks.
KvCache make_cache(const EngineState& state, int64_t capacity);

// An entry for every layer and head of an engine whose guard is on.
GuardReport guard_report(const EngineState& state);
// What the towers are given: nothing when the guard is off.
GuardReport* watching(GuardReport& report);

// Runs the decoder over a sequence. Vision embeddings replace the pad tokens of the prompt; one that the
// model generates is a token like any other, as in transformers.
class Runner {
 public:
  Runner(const EngineState& state, const Buffer<float>& vision, int64_t chunk, const Observer& observer,
         GuardReport* guard)
      : state_(state), vision_(vision), chunk_(chunk), observer_(observer), guard_(guard) {}

  // Feeds tokens cache.tokens() .. sequence.size() - 1 in chunks and calls body(first, count, hidden) for
  // each; for all of them at once where weights are streamed or keys and values on disk.
  template <typename Body>
  void run(const Sequence& sequence, KvCache& cache, Body body) {
    const int64_t start = cache.tokens(), total = sequence.size();
    // What comes from disk is passed once for all chunks: the decoder cuts the tokens itself.
    const int64_t chunk = chunk_ > 0 && !layer_by_layer(cache) ? chunk_ : total;
    hidden_.reserve(std::min(chunk, total - start) * state_.decoder.config().hidden_size);
    int64_t vision_row = count_pads(sequence, start);
    while (cache.tokens() < total) {
      const int64_t first = cache.tokens(), count = std::min(chunk, total - first);
      vision_row = feed(sequence, first, count, vision_row, cache);
      body(first, count, hidden_.data());
      if (count > 1 && !layer_by_layer(cache) && observer_.progress)
        observer_.progress("prefill", cache.tokens() - start, total - start);
      if (cache.tokens() < total) check_cancelled(observer_);
    }
  }

  // hidden: [rows, hidden_size] as run() hands it out; out: [rows, vocab].
  void logits_of(const float* hidden, int64_t rows, float* out) {
    if (state_.pipeline) {
      const int64_t first = (hidden - hidden_.data()) / state_.decoder.config().hidden_size;
      return state_.pipeline->logits(state_.pipeline_parts(), hidden_.data(), first, rows, out, scratch_);
    }
    state_.decoder.logits(hidden, rows, out, scratch_, [this] { check_cancelled(observer_); });
  }
  // Feeds what is new and writes the logits of the last token, [vocab].
  void next_logits(const Sequence& sequence, KvCache& cache, float* logits);
  // Feeds what is new, none of it of the prompt, in one call and writes the logits of every new token, [new,
  // vocab]. Says nothing of progress.
  void all_logits(const Sequence& sequence, KvCache& cache, float* logits);

 private:
  bool layer_by_layer(const KvCache& cache) const {
    return state_.parts->weights.streams() || cache.on_disk();
  }
  PassHooks hooks_for(int64_t count, const KvCache& cache) const;
  bool is_pad(const Sequence& sequence, int64_t at) const;
  int64_t count_pads(const Sequence& sequence, int64_t end) const;
  // Runs `count` tokens from `first` on; hidden_ then holds their hidden states. Returns the next vision row.
  int64_t feed(const Sequence& sequence, int64_t first, int64_t count, int64_t vision_row, KvCache& cache);

  const EngineState& state_;
  const Buffer<float>& vision_;
  int64_t chunk_;
  const Observer& observer_;
  GuardReport* guard_;
  Buffer<float> hidden_;
  DecoderScratch scratch_;
};

}  // namespace fovea
