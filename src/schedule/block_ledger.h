// Which KV block belongs to whom: counts of references, the prefix index, the order of eviction. Numbers
// only: what a number stands for in memory is the caller's affair, who moves the contents as the ledger says.
//
// A block is free, used (somebody counts it) or cached (nobody counts it, but the index can find it). Cached
// blocks are evicted when no free one is left: least recently used first, and of a chain the end first.
//
// The index finds a block by what comes before it (a root, and the blocks behind that) and by its own tokens.
// Hashes only find the place; root, predecessor and tokens are compared in full. A block enters the index as
// pending, when its computation is ordered, and becomes complete, when it has been done.
//
// Costs: each call O(1), or O(blocks named or found). For one thread; a broken rule aborts (FOVEA_CHECK).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace fovea {

using BlockId = int32_t;
inline constexpr BlockId kNoBlock = -1;

// Where a chain goes on: behind `block`, or, without one, at its root. Equal tokens under different roots
// have different keys and values.
struct ChainEnd {
  uint64_t root = 0;
  BlockId block = kNoBlock;
};

// What the index knows of a sequence's tokens. Valid until the ledger is changed.
struct Prefix {
  std::vector<BlockId> blocks;  // complete ones, in order
  int64_t tokens = 0;           // in them; no multiple of a block if the last is of use only in part
  bool pending = false;         // somebody computes the block that comes next
  int64_t cached = 0;           // of `blocks`: sharing them leaves so many fewer to be allocated
  bool needs_copy = false;      // of the last block: it may not be continued in place
};

class BlockLedger {
 public:
  struct Counters {
    int64_t hits = 0, evictions = 0, copies = 0;  // blocks
  };
  using Hash = uint64_t (*)(const ChainEnd&, std::span<const uint64_t> tokens);
  static uint64_t hash_of(const ChainEnd& after, std::span<const uint64_t> tokens);

  // `block_tokens` are in a full block. Tests hand in a hash that is bad on purpose.
  BlockLedger(int64_t capacity, int64_t block_tokens, Hash hash = hash_of);

  int64_t capacity() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t block_tokens() const { return block_tokens_; }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t cached() const { return cached_; }
  int64_t used() const { return capacity() - free() - cached(); }
  int64_t available() const { return free() + cached(); }  // so many can be allocated
  const Counters& counters() const { return counters_; }

  // A block with one reference, the caller's, and undefined contents. Nothing if all are used.
  std::optional<BlockId> allocate();
  void add_reference(BlockId block);
  // Takes one reference from each block of a sequence's table, the end first. Whoever drops a pending block
  // has abandoned it before.
  void drop(std::span<const BlockId> table);
  bool is_shared(BlockId block) const { return at(block).references > 1; }
  bool is_pending(BlockId block) const { return at(block).standing == Standing::pending; }
  // Whether the owner may write tokens `from` and later of a block: nobody else counts it, and the index
  // promises none of them.
  bool may_write(BlockId block, int64_t from) const;
  // Copy on write: exchanges the caller's reference to `block` for one to a new block, into which the caller
  // copies what it needs before anything else is written in either. Nothing, and no change, if all are used.
  std::optional<BlockId> exchange_for_copy(BlockId block);

  // The longest chain of complete blocks that `tokens` begins with, behind `after`. Then, behind the last of
  // them, the block that has the most of the tokens that follow, if it is complete; or `pending`, if somebody
  // computes a block that has all that one block could give.
  Prefix find(const ChainEnd& after, std::span<const uint64_t> tokens) const;
  // Takes a reference to each block of what has just been found.
  void share(const Prefix& prefix);

  // Announces that the caller's `block` will have `tokens`, at most a full block, behind `after`. False, and
  // no change, if that can't be found in the index (`after` is not in it, or not full) or is in it already.
  bool reserve(BlockId block, const ChainEnd& after, std::span<const uint64_t> tokens);
  // Says that the caller's `block` has `tokens` behind `after`, whether it was reserved, published with fewer
  // tokens, or neither. Returns the block that the index has for them:
  // - `block` itself;
  // - another one that somebody completed before. The caller adopts it: takes a reference to it and drops its
  //   own block. So equal contents are kept once, and of each block in the index that somebody counts he
  //   counts the predecessor, too, without which the order of eviction would be wrong;
  // - kNoBlock, if somebody else is computing it or `after` is not in the index. Then `block` stays as it is,
  //   and may be published later.
  BlockId publish(BlockId block, const ChainEnd& after, std::span<const uint64_t> tokens);
  // A pending block will not be completed; it leaves the index. Of several the end is abandoned first.
  void abandon(BlockId block);

  // Aborts unless counts, index and lists agree; O(capacity x tokens), for tests. `references` are those that
  // the caller believes to hold in all.
  void check(int64_t references) const;

 private:
  enum class Standing : uint8_t { absent, pending, complete };  // in the index
  // Links are kNoBlock where there is none.
  struct Block {
    int32_t references = 0;
    int32_t tokens = 0;  // promised by the index
    Standing standing = Standing::absent;
    ChainEnd after;
    uint64_t hash = 0;
    BlockId next_in_bucket = kNoBlock;
    BlockId first_child = kNoBlock, older_sibling = kNoBlock, younger_sibling = kNoBlock;
    BlockId used_before = kNoBlock, used_after = kNoBlock;  // among the cached ones
  };
  // Behind one block there may be thousands (all prompts begin alike); so many of the youngest are compared
  // for a part of them. What is missed costs less than a block of tokens.
  static constexpr int kComparedSiblings = 16;

  Block& at(BlockId block) { return blocks_[static_cast<size_t>(block)]; }
  const Block& at(BlockId block) const { return blocks_[static_cast<size_t>(block)]; }
  std::span<const uint64_t> tokens_of(BlockId block) const;
  BlockId& bucket(uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }
  BlockId bucket(uint64_t hash) const { return buckets_[hash & (buckets_.size() - 1)]; }
  BlockId youngest_child(const ChainEnd& after) const;
  BlockId exact(const ChainEnd& after, std::span<const uint64_t> tokens, uint64_t hash) const;
  void continue_in_part(Prefix& prefix, const ChainEnd& after, std::span<const uint64_t> tokens) const;
  void append(Prefix& prefix, BlockId block, int64_t tokens) const;
  bool is_findable(const ChainEnd& after) const;
  void enter_index(BlockId block, const ChainEnd& after, std::span<const uint64_t> tokens, uint64_t hash,
                   Standing standing);
  void leave_index(BlockId block);
  void set_first_child(const ChainEnd& after, BlockId block);
  void enter_cache(BlockId block);
  void leave_cache(BlockId block);
  void check_block(BlockId block) const;
  int64_t check_lists() const;

  int64_t block_tokens_;
  Hash hash_;
  std::vector<Block> blocks_;
  std::vector<uint64_t> tokens_;                         // [capacity, block_tokens]
  std::vector<BlockId> buckets_;                         // a power of two
  std::unordered_map<uint64_t, BlockId> first_of_root_;  // the youngest block that begins at a root
  std::vector<BlockId> free_;                            // the last goes first
  BlockId least_recent_ = kNoBlock, most_recent_ = kNoBlock;
  int64_t cached_ = 0;
  Counters counters_;
};

}  // namespace fovea
