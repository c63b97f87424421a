// The keys (after RoPE) and values of one sequence in every decoder layer, in the policy's storage types: a
// table of blocks (kv_blocks.h), and how many tokens are in them. Attention borrows views. In int8 each
// token's row of each head has its own scale, max|x| / 127: what a token leaves in the cache depends on that
// token alone, so that chunks, rollbacks and company change nothing. Layers with bias_split keep keys without
// their bias.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "attention/problem.h"
#include "checkpoint/config.h"
#include "model/elementwise.h"
#include "model/held_parts.h"
#include "model/kv_blocks.h"
#include "model/kv_disk.h"

namespace fovea {

class KvCache;

// While it lives, the pages of a layer are in memory.
class KvLease {
 public:
  KvLease(KvLease&& other) noexcept
      : cache_(std::exchange(other.cache_, nullptr)),
        layer_(other.layer_),
        first_(other.first_),
        end_(other.end_) {}
  KvLease& operator=(KvLease&&) = delete;
  ~KvLease();

 private:
  friend class KvCache;
  KvLease(KvCache* cache, int64_t layer, int64_t first, int64_t end)
      : cache_(cache), layer_(layer), first_(first), end_(end) {}

  KvCache* cache_;  // null: they are there in any case
  int64_t layer_, first_, end_;
};

// What a cache holds, and has moved.
struct KvState {
  int64_t bytes = 0, disk_bytes = 0;  // for all tokens it has room for: in memory, buffers included; on disk
  int64_t layers_on_disk = 0;
  int64_t read_bytes = 0, written_bytes = 0;
};

class KvCache {
 public:
  // With blocks of its own, made as tokens come, for at most `capacity` tokens. One entry of `layers` per
  // layer. Throws Error(exhausted) when there is no memory for a block, or no room on disk for the layers
  // that `offload` sends there. Layers that are not held take nothing and may not be used.
  KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers,
          const HeldParts& held = {}, const std::optional<KvOffload>& offload = std::nullopt,
          bool guard = false);
  // With blocks of a pool, which is borrowed and which whoever counts its blocks puts into the table.
  explicit KvCache(KvPool& pool);

  // Of keys or values of one layer: kv_heads * head_dim * bytes_of(type), and 4 for each head's scale in
  // int8.
  static int64_t bytes_per_token(const TextConfig& config, DType type);
  // The state() of a cache with blocks of its own of these shapes, nothing moved; with a limit as
  // KvOffload::bytes.
  static KvState state_for(const TextConfig& config, int64_t capacity,
                           const std::vector<TowerPrecision>& layers,
                           const std::optional<int64_t>& limit = std::nullopt, bool guard = false);

  int64_t tokens() const { return tokens_; }
  // Tokens that the table's blocks hold; with blocks of its own, what it was made for.
  int64_t capacity() const { return own_ ? capacity_ : std::ssize(table_) * kPageTokens; }
  KvState state() const;

  // With blocks of a pool: tokens [index * kPageTokens, ...) are in block `number`, in place of the block
  // that stood there or behind all others.
  void set_block(int64_t index, int64_t number);
  // Likewise: only the first `blocks` remain, and as many tokens as they hold.
  void drop_blocks(int64_t blocks);
  // Likewise: so many tokens are in the blocks already.
  void found(int64_t tokens);

  // A layer's pages, for a call that stores tokens [first, end): whatever follows wants this first.
  // `while_waiting`, if any, is called ten times a second meanwhile, and may throw.
  KvLease use(int64_t layer, int64_t first, int64_t end, const std::function<void()>& while_waiting = {});
  // Whether some layers are on disk, so that a layer should see all chunks of a prompt at once.
  bool on_disk() const { return disk_ != nullptr; }

  // Stores k, v of tokens [first, first + count), [count, kv_heads * head_dim] f32 with `stride`, behind the
  // tokens() already there. Every layer stores before commit(count) moves tokens() on. Requires first + count
  // <= capacity().
  void store(const Kernels& kernels, int64_t layer, int64_t first, const float* k, const float* v,
             int64_t stride, int64_t count);
  void commit(int64_t count);
  // The f32 cos and sin of the same tokens' angles, for the layers with bias_split whose angles have this
  // type, which stand in `table` from `row` on; likewise before commit(), once for all layers.
  void store_rotation(DType angles, int64_t first, const RopeTable& table, int64_t row, int64_t count);
  // A key bias with the rotations of all tokens, those of the running call included.
  KeyBias key_bias(DType angles, const float* bias) const;
  // Of a cache with a guard: the largest |k| of each kv head up to this token, kept for the guard, who writes
  // it after use().
  float* largest_key_norms(int64_t layer, int64_t token);
  void truncate(int64_t tokens);

  // Views of the first `tokens` tokens.
  HeadsView keys(int64_t layer, int64_t tokens) const;
  HeadsView values(int64_t layer, int64_t tokens) const;

 private:
  friend class KvLease;
  struct OnDisk {
    int64_t number = -1;       // there; -1: in blocks
    std::vector<char*> pages;  // while the layer is in memory
  };
  const KvLayout& layout() const { return pool_->layout(); }
  void make_blocks(int64_t tokens);
  void make_scratch();
  void release(int64_t layer, int64_t first, int64_t end);
  const std::vector<char*>& pages_of(int64_t layer) const;
  HeadsView view(int64_t layer, const KvLayout::Rows& rows, int64_t tokens) const;
  void write(const Kernels& kernels, char* page, const KvLayout::Rows& rows, int64_t in_page,
             const float* row);
  void write_int8(const Kernels& kernels, char* page, const KvLayout::Rows& rows, int64_t in_page,
                  const float* row);

  std::unique_ptr<KvPool> own_;
  KvPool* pool_;
  int64_t capacity_ = 0, tokens_ = 0;
  std::vector<char*> table_;
  std::vector<OnDisk> on_disk_;  // of each layer; empty without a disk
  std::unique_ptr<KvDisk> disk_;
  Buffer<int8_t> padded_row_;  // one head's, while it is quantized
  Buffer<int32_t> row_sums_;
};

}  // namespace fovea
