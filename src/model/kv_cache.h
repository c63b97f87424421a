// The keys (after RoPE) and values of every decoder layer, in the policy's storage types. Attention borrows
// views. They lie in pages of kPageTokens tokens, which are made as tokens come; a page has the keys and the
// values of one layer, head by head. In int8 each token's row of each head has its own scale, max|x| / 127:
// what a token leaves in the cache depends on that token alone, so that chunks, rollbacks and company change
// nothing. Layers with bias_split keep keys without their bias; for them the cache remembers the rotation of
// every token, once per type of rotary angles, whatever the number of layers and heads.
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
  // One entry per layer. Throws Error(exhausted) when there is no memory for a page, or no room on disk for
  // the layers that `offload` sends there. bytes = pages of capacity tokens, for each layer those of
  // page_bytes, and capacity * head_dim * 4 for each rotation. Layers that are not held take nothing and may
  // not be used.
  KvCache(const TextConfig& config, int64_t capacity, const std::vector<TowerPrecision>& layers,
          const HeldParts& held = {}, const std::optional<KvOffload>& offload = std::nullopt);

  // Of keys or values of one layer: kv_heads * head_dim * bytes_of(type), and 4 for each head's scale in
  // int8.
  static int64_t bytes_per_token(const TextConfig& config, DType type);
  // What a layer's pages of so many tokens take: whole pages, each a multiple of kDirectPage.
  static int64_t layer_bytes(const TextConfig& config, int64_t tokens, const TowerPrecision& layer);
  // The state() of a cache of these shapes, nothing moved; with a limit as KvOffload::bytes.
  static KvState state_for(const TextConfig& config, int64_t capacity,
                           const std::vector<TowerPrecision>& layers,
                           const std::optional<int64_t>& limit = std::nullopt);

  int64_t tokens() const { return tokens_; }
  int64_t capacity() const { return capacity_; }
  KvState state() const;

  // A layer's pages, for a call that stores tokens [first, end): whatever follows wants this first.
  // `while_waiting`, if any, is called ten times a second meanwhile, and may throw.
  KvLease use(int64_t layer, int64_t first, int64_t end, const std::function<void()>& while_waiting = {});
  // Whether some layers are on disk, so that a layer should see all chunks of a prompt at once.
  bool on_disk() const { return disk_ != nullptr; }

  // Stores k, v of tokens [first, first + count), [count, kv_heads * head_dim] f32 with `stride`, behind the
  // tokens() already there. Every layer stores before commit(count) moves tokens() on. Requires first + count
  // <= capacity().
  void store(int64_t layer, int64_t first, const float* k, const float* v, int64_t stride, int64_t count);
  void commit(int64_t count);
  // The f32 cos and sin of the same tokens' angles, for the layers with bias_split whose angles have this
  // type, which stand in `table` from `row` on; likewise before commit(), once for all layers.
  void store_rotation(DType angles, int64_t first, const RopeTable& table, int64_t row, int64_t count);
  // A key bias with the rotations of all tokens, those of the running call included.
  KeyBias key_bias(DType angles, const float* bias) const;
  // The largest |k| of each kv head so far, kept for the guard, who updates it.
  float* largest_key_norms(int64_t layer) { return &norms_[static_cast<size_t>(layer * heads_)]; }
  void truncate(int64_t tokens);

  // Views of the first `tokens` tokens.
  HeadsView keys(int64_t layer, int64_t tokens) const;
  HeadsView values(int64_t layer, int64_t tokens) const;

 private:
  friend class KvLease;
  struct Rows {  // keys or values of a page
    DType type;
    int64_t rows, scales;  // where they begin, in bytes
  };
  struct Layer {
    Rows keys, values;
    int64_t page_bytes;               // 0: not held
    int64_t on_disk = -1;             // its number there
    std::vector<Buffer<char>> slabs;  // the memory of several pages each
    std::vector<char*> pages;
  };
  struct Rotation {
    DType angles;
    Buffer<float> cos, sin;  // [capacity, head_dim / 2]
  };
  static Layer layout(const TextConfig& config, const TowerPrecision& precision);
  int64_t rotation_bytes() const;
  void make_pages(Layer& layer, int64_t tokens);
  void release(int64_t layer, int64_t first, int64_t end);
  size_t place_of(DType angles) const;  // in rotations_
  HeadsView view(const Layer& layer, const Rows& rows, int64_t tokens) const;
  void write(const Layer& layer, const Rows& rows, int64_t token, const float* row);
  void write_int8(char* page, const Rows& rows, int64_t in_page, const float* row);

  int64_t heads_, head_dim_, capacity_, tokens_ = 0;
  std::vector<Layer> layers_;
  std::unique_ptr<KvDisk> disk_;
  std::vector<Rotation> rotations_;
  std::vector<float> norms_;   // [layers, heads]
  Buffer<int8_t> padded_row_;  // one head's, while it is quantized
  Buffer<int32_t> row_sums_;
};

}  // namespace fovea
