// The keys (after RoPE) and values of every decoder layer, in the policy's storage types. Attention borrows
// views.
#pragma once

#include <vector>

#include "attention/problem.h"
#include "checkpoint/config.h"

namespace fovea {

class KvCache {
 public:
  // One entry per layer. Throws Error(exhausted) when capacity tokens cannot be held. bytes = capacity *
  // kv_heads * head_dim * sum over layers of (bytes_of(k_cache) + bytes_of(v_cache)).
  KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers);

  int64_t tokens() const { return tokens_; }
  int64_t capacity() const { return capacity_; }
  int64_t bytes() const;

  // Stores k, v of `count` tokens, [count, kv_heads * head_dim] f32 with `stride`, behind the tokens()
  // already there. Every layer stores before commit(count) moves tokens() on. Requires tokens() + count <=
  // capacity().
  void store(int64_t layer, const float* k, const float* v, int64_t stride, int64_t count);
  void commit(int64_t count);
  void truncate(int64_t tokens);

  // Views of the first `tokens` tokens.
  HeadsView keys(int64_t layer, int64_t tokens) const;
  HeadsView values(int64_t layer, int64_t tokens) const;

 private:
  struct Storage {
    DType type;
    Buffer<char> bytes;
  };
  Storage allocate(DType type) const;
  HeadsView view(const Storage& storage, int64_t tokens) const;
  void write(Storage& storage, const float* rows, int64_t stride, int64_t count) const;

  int64_t heads_, head_dim_, capacity_, tokens_ = 0;
  std::vector<Storage> keys_, values_;
};

}  // namespace fovea
