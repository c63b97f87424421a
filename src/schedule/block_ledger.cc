#include "schedule/block_ledger.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/splitmix64.h"

namespace fovea {

uint64_t BlockLedger::hash_of(const ChainEnd& after, std::span<const uint64_t> tokens) {
  uint64_t hash = splitmix64(after.root + kSplitMixStep) ^ static_cast<uint64_t>(after.block);
  for (const uint64_t token : tokens) hash = splitmix64((hash + kSplitMixStep) ^ token);
  return hash;
}

BlockLedger::BlockLedger(int64_t capacity, int64_t block_tokens, Hash hash)
    : block_tokens_(block_tokens),
      hash_(hash),
      blocks_(static_cast<size_t>(capacity)),
      tokens_(static_cast<size_t>(capacity * block_tokens)),
      buckets_(std::bit_ceil(static_cast<size_t>(std::max<int64_t>(capacity, 1))), kNoBlock) {
  FOVEA_CHECK(capacity >= 0 && capacity <= INT32_MAX && block_tokens > 0);
  free_.reserve(blocks_.size());
  for (int64_t block = capacity; block-- > 0;) free_.push_back(static_cast<BlockId>(block));
}

std::optional<BlockId> BlockLedger::allocate() {
  if (free_.empty()) {
    if (least_recent_ == kNoBlock) return std::nullopt;
    const BlockId evicted = least_recent_;
    leave_cache(evicted);
    leave_index(evicted);
    free_.push_back(evicted);
    ++counters_.evictions;
  }
  const BlockId block = free_.back();
  free_.pop_back();
  at(block).references = 1;
  return block;
}

void BlockLedger::add_reference(BlockId block) {
  FOVEA_CHECK(at(block).references > 0 || at(block).standing == Standing::complete);
  if (at(block).references++ == 0) leave_cache(block);
}

void BlockLedger::drop(std::span<const BlockId> table) {
  for (size_t i = table.size(); i-- > 0;) {
    Block& block = at(table[i]);
    FOVEA_CHECK(block.references > 0);
    if (--block.references > 0) continue;
    FOVEA_CHECK(block.standing != Standing::pending);
    if (block.standing == Standing::complete) {
      enter_cache(table[i]);
    } else {
      free_.push_back(table[i]);
    }
  }
}

bool BlockLedger::may_write(BlockId block, int64_t from) const {
  const Block& b = at(block);
  return b.references == 1 && (b.standing != Standing::complete || b.tokens <= from);
}

std::optional<BlockId> BlockLedger::exchange_for_copy(BlockId block) {
  const auto copy = allocate();
  if (!copy) return std::nullopt;
  drop({&block, 1});
  ++counters_.copies;
  return copy;
}

std::span<const uint64_t> BlockLedger::tokens_of(BlockId block) const {
  return std::span(tokens_).subspan(static_cast<size_t>(block * block_tokens_),
                                    static_cast<size_t>(at(block).tokens));
}

BlockId BlockLedger::youngest_child(const ChainEnd& after) const {
  if (after.block != kNoBlock) return at(after.block).first_child;
  const auto found = first_of_root_.find(after.root);
  return found == first_of_root_.end() ? kNoBlock : found->second;
}

// The block with exactly these tokens, pending or complete.
BlockId BlockLedger::exact(const ChainEnd& after, std::span<const uint64_t> tokens, uint64_t hash) const {
  for (BlockId block = bucket(hash); block != kNoBlock; block = at(block).next_in_bucket) {
    const Block& b = at(block);
    if (b.hash == hash && b.after.block == after.block && b.after.root == after.root &&
        std::ranges::equal(tokens_of(block), tokens)) {
      return block;
    }
  }
  return kNoBlock;
}

Prefix BlockLedger::find(const ChainEnd& after, std::span<const uint64_t> tokens) const {
  Prefix prefix;
  ChainEnd end = after;
  const auto full = static_cast<size_t>(block_tokens_);
  for (; tokens.size() >= full; tokens = tokens.subspan(full)) {
    const auto wanted = tokens.first(full);
    const BlockId block = exact(end, wanted, hash_(end, wanted));
    if (block == kNoBlock) break;
    if (at(block).standing == Standing::pending) {
      prefix.pending = true;
      return prefix;
    }
    append(prefix, block, block_tokens_);
    end.block = block;
  }
  continue_in_part(prefix, end, tokens.first(std::min(tokens.size(), full)));
  return prefix;
}

void BlockLedger::append(Prefix& prefix, BlockId block, int64_t tokens) const {
  prefix.blocks.push_back(block);
  prefix.tokens += tokens;
  if (at(block).references == 0) ++prefix.cached;
}

void BlockLedger::continue_in_part(Prefix& prefix, const ChainEnd& after,
                                   std::span<const uint64_t> tokens) const {
  BlockId best = kNoBlock;
  int64_t best_tokens = 0;
  BlockId block = tokens.empty() ? kNoBlock : youngest_child(after);
  for (int i = 0; i < kComparedSiblings && block != kNoBlock; ++i, block = at(block).older_sibling) {
    const auto theirs = tokens_of(block);
    const auto common = static_cast<int64_t>(std::ranges::mismatch(theirs, tokens).in1 - theirs.begin());
    if (at(block).standing == Standing::pending) {
      prefix.pending |= common == static_cast<int64_t>(tokens.size());
    } else if (common > best_tokens) {
      best = block;
      best_tokens = common;
    }
  }
  if (best_tokens == static_cast<int64_t>(tokens.size())) prefix.pending = false;
  if (best == kNoBlock || prefix.pending) return;
  append(prefix, best, best_tokens);
  prefix.needs_copy = at(best).references > 0 || at(best).tokens > best_tokens;
}

void BlockLedger::share(const Prefix& prefix) {
  for (const BlockId block : prefix.blocks) add_reference(block);
  counters_.hits += static_cast<int64_t>(prefix.blocks.size());
}

bool BlockLedger::is_findable(const ChainEnd& after) const {
  return after.block == kNoBlock ||
         (at(after.block).standing != Standing::absent && at(after.block).tokens == block_tokens_);
}

bool BlockLedger::reserve(BlockId block, const ChainEnd& after, std::span<const uint64_t> tokens) {
  FOVEA_CHECK(at(block).references == 1 && !tokens.empty());
  if (!is_findable(after)) return false;
  const uint64_t hash = hash_(after, tokens);
  const BlockId existing = exact(after, tokens, hash);
  if (existing != kNoBlock) return existing == block;
  leave_index(block);
  enter_index(block, after, tokens, hash, Standing::pending);
  return true;
}

BlockId BlockLedger::publish(BlockId block, const ChainEnd& after, std::span<const uint64_t> tokens) {
  FOVEA_CHECK(at(block).references > 0 && !tokens.empty());
  if (!is_findable(after)) return kNoBlock;
  const uint64_t hash = hash_(after, tokens);
  const BlockId existing = exact(after, tokens, hash);
  if (existing == block) {
    at(block).standing = Standing::complete;
    return block;
  }
  if (existing != kNoBlock && at(existing).standing == Standing::pending) return kNoBlock;
  FOVEA_CHECK(at(block).standing != Standing::complete ||
              at(block).tokens < static_cast<int64_t>(tokens.size()));
  leave_index(block);
  if (existing != kNoBlock) return existing;
  enter_index(block, after, tokens, hash, Standing::complete);
  return block;
}

void BlockLedger::abandon(BlockId block) {
  FOVEA_CHECK(is_pending(block));
  leave_index(block);
}

void BlockLedger::enter_index(BlockId block, const ChainEnd& after, std::span<const uint64_t> tokens,
                              uint64_t hash, Standing standing) {
  FOVEA_CHECK(static_cast<int64_t>(tokens.size()) <= block_tokens_);
  Block& b = at(block);
  std::ranges::copy(tokens, tokens_.begin() + block * block_tokens_);
  b.tokens = static_cast<int32_t>(tokens.size());
  b.standing = standing;
  b.after = after;
  b.hash = hash;
  b.next_in_bucket = bucket(hash);
  bucket(hash) = block;
  b.older_sibling = youngest_child(after);
  if (b.older_sibling != kNoBlock) at(b.older_sibling).younger_sibling = block;
  set_first_child(after, block);
}

// Does nothing to a block that is not in the index.
void BlockLedger::leave_index(BlockId block) {
  Block& b = at(block);
  if (b.standing == Standing::absent) return;
  FOVEA_CHECK(b.first_child == kNoBlock);
  BlockId* link = &bucket(b.hash);
  while (*link != block) link = &at(*link).next_in_bucket;
  *link = b.next_in_bucket;
  if (b.older_sibling != kNoBlock) at(b.older_sibling).younger_sibling = b.younger_sibling;
  if (b.younger_sibling != kNoBlock) {
    at(b.younger_sibling).older_sibling = b.older_sibling;
  } else {
    set_first_child(b.after, b.older_sibling);
  }
  const int32_t references = b.references;
  b = Block{};
  b.references = references;
}

void BlockLedger::set_first_child(const ChainEnd& after, BlockId block) {
  if (after.block != kNoBlock) {
    at(after.block).first_child = block;
  } else if (block != kNoBlock) {
    first_of_root_[after.root] = block;
  } else {
    first_of_root_.erase(after.root);
  }
}

void BlockLedger::enter_cache(BlockId block) {
  at(block).used_before = most_recent_;
  (most_recent_ == kNoBlock ? least_recent_ : at(most_recent_).used_after) = block;
  most_recent_ = block;
  ++cached_;
}

void BlockLedger::leave_cache(BlockId block) {
  Block& b = at(block);
  (b.used_before == kNoBlock ? least_recent_ : at(b.used_before).used_after) = b.used_after;
  (b.used_after == kNoBlock ? most_recent_ : at(b.used_after).used_before) = b.used_before;
  b.used_before = b.used_after = kNoBlock;
  --cached_;
}

void BlockLedger::check_block(BlockId block) const {
  const Block& b = at(block);
  FOVEA_CHECK(b.references >= 0);
  if (b.standing == Standing::absent) {
    FOVEA_CHECK(b.first_child == kNoBlock);
    return;
  }
  FOVEA_CHECK(b.tokens > 0 && b.tokens <= block_tokens_);
  FOVEA_CHECK(b.hash == hash_(b.after, tokens_of(block)));
  FOVEA_CHECK(exact(b.after, tokens_of(block), b.hash) == block);  // findable, and no other is equal
  if (b.standing == Standing::pending) FOVEA_CHECK(b.references == 1);
  if (b.tokens < block_tokens_) FOVEA_CHECK(b.first_child == kNoBlock);
  for (BlockId child = b.first_child; child != kNoBlock; child = at(child).older_sibling) {
    FOVEA_CHECK(at(child).after.block == block && at(child).after.root == b.after.root);
    FOVEA_CHECK(at(child).references == 0 || b.references > 0);
    FOVEA_CHECK(b.standing == Standing::complete || at(child).standing == Standing::pending);
  }
}

// The lists of free and of cached blocks; returns how many are in both.
int64_t BlockLedger::check_lists() const {
  std::vector<bool> seen(blocks_.size());
  for (const BlockId block : free_) {
    FOVEA_CHECK(!seen[static_cast<size_t>(block)]);
    FOVEA_CHECK(at(block).references == 0 && at(block).standing == Standing::absent);
    seen[static_cast<size_t>(block)] = true;
  }
  int64_t cached = 0;
  BlockId before = kNoBlock;
  for (BlockId block = least_recent_; block != kNoBlock; before = block, block = at(block).used_after) {
    FOVEA_CHECK(!seen[static_cast<size_t>(block)] && at(block).used_before == before);
    FOVEA_CHECK(at(block).references == 0 && at(block).standing == Standing::complete);
    seen[static_cast<size_t>(block)] = true;
    const BlockId parent = at(block).after.block;
    if (parent != kNoBlock) FOVEA_CHECK(!seen[static_cast<size_t>(parent)]);  // the end goes first
    ++cached;
  }
  FOVEA_CHECK(before == most_recent_ && cached == cached_);
  return free() + cached;
}

void BlockLedger::check(int64_t references) const {
  int64_t counted = 0, unused = 0;
  for (BlockId block = 0; block < static_cast<BlockId>(blocks_.size()); ++block) {
    check_block(block);
    counted += at(block).references;
    if (at(block).references == 0) ++unused;
  }
  FOVEA_CHECK(counted == references);
  FOVEA_CHECK(check_lists() == unused);
}

}  // namespace fovea
