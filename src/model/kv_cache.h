// The keys (after RoPE) and values of every decoder layer, in the policy's storage types. Attention borrows
// views. In int8 each token's row of each head has its own scale, max|x| / 127: what a token leaves in the
// cache depends on that token alone, so that chunks, rollbacks and company change nothing. Layers with
// bias_split keep keys without their bias; for them the cache remembers the rotation of every token, once per
// type of rotary angles, whatever the number of layers and heads.
#pragma once

#include <vector>

#include "attention/problem.h"
#include "checkpoint/config.h"
#include "model/elementwise.h"
#include "model/held_parts.h"

namespace fovea {

class KvCache {
 public:
  // One entry per layer. Throws Error(exhausted) when capacity tokens cannot be held. bytes = capacity *
  // sum over layers of (bytes_per_token of k_cache and of v_cache), and capacity * head_dim * 4 for each
  // rotation. Layers that are not held take nothing and may not be used.
  KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers,
          const HeldParts& held = {});

  // Of keys or values of one layer: kv_heads * head_dim * bytes_of(type), and 4 for each head's scale in
  // int8.
  static int64_t bytes_per_token(const TextConfig& config, DType type);
  // What bytes() will be, computed from shapes.
  static int64_t bytes_for(const TextConfig& config, int64_t capacity,
                           const std::vector<TowerPrecision>& layers);

  int64_t tokens() const { return tokens_; }
  int64_t capacity() const { return capacity_; }
  int64_t bytes() const;

  // Stores k, v of tokens [first, first + count), [count, kv_heads * head_dim] f32 with `stride`, behind the
  // tokens() already there. Every layer stores before commit(count) moves tokens() on. Requires first + count
  // <= capacity().
  void store(int64_t layer, int64_t first, const float* k, const float* v, int64_t stride, int64_t count);
  void commit(int64_t count);
  // The f32 cos and sin of the same tokens' angles, for the layers with bias_split whose angles have this
  // type; likewise before commit(), once for all layers.
  void store_rotation(DType angles, int64_t first, const RopeTable& table, int64_t count);
  // A key bias with the rotations of all tokens, those of the running call included.
  KeyBias key_bias(DType angles, const float* bias) const;
  // The largest |k| of each kv head so far, kept for the guard, who updates it.
  float* largest_key_norms(int64_t layer) { return &norms_[static_cast<size_t>(layer * heads_)]; }
  void truncate(int64_t tokens);

  // Views of the first `tokens` tokens.
  HeadsView keys(int64_t layer, int64_t tokens) const;
  HeadsView values(int64_t layer, int64_t tokens) const;

 private:
  struct Storage {
    DType type;
    Buffer<char> bytes;
    Buffer<float> scales;  // of int8: [capacity, heads]
  };
  struct Rotation {
    DType angles;
    Buffer<float> cos, sin;  // [capacity, head_dim / 2]
  };
  Storage allocate(DType type, bool held) const;
  size_t place_of(DType angles) const;  // in rotations_
  HeadsView view(const Storage& storage, int64_t tokens) const;
  void write(Storage& storage, int64_t first, const float* rows, int64_t stride, int64_t count);
  void write_int8(Storage& storage, int64_t token, const float* row);

  int64_t heads_, head_dim_, capacity_, tokens_ = 0;
  std::vector<Storage> keys_, values_;
  std::vector<Rotation> rotations_;
  std::vector<float> norms_;   // [layers, heads]
  Buffer<int8_t> padded_row_;  // one head's, while it is quantized
  Buffer<int32_t> row_sums_;
};

}  // namespace fovea
