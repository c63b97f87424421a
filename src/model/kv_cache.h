// The keys (after RoPE) and values of every decoder layer, in the policy's storage type. Attention borrows
// views.
#pragma once

#include <vector>

#include "attention/problem.h"
#include "checkpoint/config.h"

namespace fovea {

class KvCache {
 public:
  // Throws Error(exhausted) when capacity tokens cannot be held. bytes = 2 * layers * capacity * kv_heads *
  // head_dim * bytes_of(type).
  KvCache(const TextConfig& config, int64_t capacity, DType type);

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
  HeadsView view(const Buffer<char>& storage, int64_t tokens) const;
  void write(Buffer<char>& storage, const float* rows, int64_t stride, int64_t count) const;

  DType type_;
  int64_t heads_, head_dim_, capacity_, tokens_ = 0;
  std::vector<Buffer<char>> keys_, values_;
};

}  // namespace fovea
