// The text decoder: embeddings and M-RoPE positions in, hidden states and logits out.
// Formula by formula: Qwen2_5_VLTextModel of transformers 4.57.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "attention/problem.h"
#include "model/batch.h"
#include "model/call_memory.h"
#include "model/held_parts.h"
#include "model/kv_cache.h"
#include "model/layer_observer.h"
#include "model/linear.h"
#include "model/tensor_shard.h"
#include "model/weight_store.h"

namespace fovea {

// Working memory of a decoder's calls, sized by them. Who calls keeps it, so that a step no larger than those
// before allocates nothing.
struct DecoderScratch {
  Buffer<float> normed, qkv, attended, attended_piece, gate, up, key_norms, attention;
  std::vector<BatchPiece> pieces;
  std::vector<BatchPart> parts;
  std::vector<AttentionProblem> problems, piece_problems;  // of each part of a piece
  std::vector<AttentionGuard> guards;
  std::vector<RopeTable> ropes;  // of each piece, each variant
  RopeTable split_rope;
  std::vector<double> angles;
  ProductScratch products;
};

class Decoder {
 public:
  // Weights are borrowed from the store, and computed with on its context. `text` has an entry for every
  // layer. With a shard of several ranks every call is collective: all ranks make it with the same arguments.
  // Then Throws Error(unsupported) when weights are quantized or streamed. Of what is not held nothing is
  // loaded, and nothing may be computed.
  Decoder(const WeightStore& store, const LayeredPrecision& text, DType logits, const TensorShard& shard = {},
          const HeldParts& held = {});
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;
  ~Decoder();

  // out: [ids.size(), hidden_size] f32. Throws Error(invalid_argument) for an id outside the vocabulary.
  void embed(std::span<const int32_t> ids, float* out) const;

  // Runs the rows of a batch through all layers, in place: hidden [rows_of(segments), hidden_size] f32, and
  // appends them to their caches. A row's result depends on its own sequence alone: not on the company, not
  // on how the sequence is cut into calls, nor on `piece`: so many rows go through a layer at once (0: all),
  // and all of them through it before any goes through the next, so that each layer's weights are taken once.
  // A segment with a non-finite value gets its failure; the call ends early when all have one. When a hook
  // throws, or memory runs out, nothing is appended.
  void forward(float* hidden, std::span<Segment> segments, DecoderScratch& scratch,
               const PassHooks& hooks = {}, int64_t piece = 0) const;

  // The same through layers [first, last) only, nothing appended: whoever has run all layers of the model, or
  // all that this process holds, then commits the segments' counts to their caches.
  void forward_layers(int64_t first, int64_t last, float* hidden, std::span<Segment> segments,
                      DecoderScratch& scratch, const PassHooks& hooks = {}, int64_t piece = 0) const;

  // hidden: [rows, hidden_size] as forward left it; out: [rows, vocab_size] f32 (final norm and output head).
  // A row that is not finite: Error(numeric), thrown, or with one entry of `failures` for each row, put
  // there.
  void logits(const float* hidden, int64_t rows, float* out, DecoderScratch& scratch,
              const std::function<void()>& while_waiting = {},
              std::span<std::exception_ptr> failures = {}) const;

  // With several ranks, heads and intermediate_size are this rank's own: a KvCache is made for it.
  const TextConfig& config() const;

  // What forward() allocates for pieces of `rows` tokens, the last of `keys` in the cache, apart from
  // `hidden`; `pieces` of them in one call.
  static CallMemory memory(const TextConfig& config, const LayeredPrecision& text, int64_t rows, int64_t keys,
                           bool guard, int64_t pieces = 1, const Context& context = process_context());

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fovea
