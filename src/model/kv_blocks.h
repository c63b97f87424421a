// The memory of keys and values, in blocks. A block holds kPageTokens tokens of one sequence, or of several
// that begin alike: for each decoder layer a page with their keys and values, head by head; the rotations of
// these tokens, once for each type of rotary angles, where layers keep keys without their bias; and for the
// guard the largest |k| up to each token. What a token leaves in a block depends on the tokens before it
// alone, so that blocks can be shared.
#pragma once

#include <vector>

#include "attention/problem.h"
#include "base/buffer.h"
#include "checkpoint/config.h"
#include "model/held_parts.h"

namespace fovea {

// Where everything lies in a block, in bytes from its beginning.
class KvLayout {
 public:
  struct Rows {  // keys or values of a layer's page
    DType type;
    int64_t rows, scales;
  };
  struct Layer {
    Rows keys, values;
    int64_t page_bytes;  // 0: not held
    bool elsewhere =
        false;  // its pages are not in blocks; then rows and scales count from the page's beginning
  };
  struct Rotation {
    DType angles;
    int64_t cos, sin;  // [kPageTokens, head_dim / 2] f32 each
  };

  // One entry of `precision` per layer; a planner may give those of a part of the model. Layers that are not
  // held take nothing.
  KvLayout(const TextConfig& config, const std::vector<TowerPrecision>& precision, const HeldParts& held,
           bool guard);

  // Leaves out the pages of these layers. Once, before blocks are made.
  void leave_out(const std::vector<bool>& layers);

  int64_t heads() const { return heads_; }
  int64_t head_dim() const { return head_dim_; }
  const std::vector<Layer>& layers() const { return layers_; }
  const Rotation& rotation(DType angles) const;
  // Of a layer: [kPageTokens, heads] f32; -1 without a guard.
  int64_t norms(int64_t layer) const;
  int64_t block_bytes() const { return block_bytes_; }
  // What belongs to no layer's page.
  int64_t shared_bytes() const { return shared_bytes_; }

 private:
  void place();

  int64_t heads_, head_dim_, norms_ = -1, block_bytes_ = 0, shared_bytes_ = 0;
  bool guard_;
  std::vector<Layer> layers_;
  std::vector<Rotation> rotations_;
};

// Blocks by number. Whoever counts them (a ledger, or a cache that has them for itself) says which are used;
// a number's memory is allocated when it is first asked for, and kept. One thread at a time.
class KvPool {
 public:
  // For at most `blocks` blocks.
  KvPool(KvLayout layout, int64_t blocks);
  KvPool(const KvPool&) = delete;

  const KvLayout& layout() const { return layout_; }
  int64_t blocks() const { return blocks_; }
  // Throws Error(exhausted) when there is no memory.
  char* block(int64_t number);
  // What all sequences had in block `from` is then in `to`, too.
  void copy(int64_t from, int64_t to);

 private:
  KvLayout layout_;
  int64_t blocks_, per_slab_;
  std::vector<Buffer<char>> slabs_;  // several blocks each
};

}  // namespace fovea
