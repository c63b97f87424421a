#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/error.h"

namespace fovea {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
constexpr int32_t kGone = -1;  // a symbol that was merged into its left neighbour

uint64_t key_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

BpeMerges::BpeMerges(size_t count) {
  const size_t slots = std::bit_ceil(std::max<size_t>(2 * count, 16));
  table_.resize(slots);
  shift_ = 64 - std::countr_zero(slots);
}

size_t BpeMerges::slot_of(uint64_t pair) const {
  // Fibonacci hashing: the top bits of a product with 2^64 / golden ratio.
  size_t slot = static_cast<size_t>((pair * 0x9E3779B97F4A7C15u) >> shift_);
  while (table_[slot].pair != pair && table_[slot].pair != kEmpty) slot = (slot + 1) & (table_.size() - 1);
  return slot;
}

void BpeMerges::add(int32_t left, int32_t right, uint32_t rank, int32_t result) {
  FOVEA_CHECK(left >= 0 && right >= 0);
  const uint64_t pair = key_of(left, right);
  table_[slot_of(pair)] = {pair, rank, result};
}

const BpeMerges::Entry* BpeMerges::find(int32_t left, int32_t right) const {
  const Entry& entry = table_[slot_of(key_of(left, right))];
  return entry.pair == kEmpty ? nullptr : &entry;
}

namespace {

struct LaterFirst {
  template <typename Candidate>
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }
};

}  // namespace

void BpeMerges::propose(const std::vector<int32_t>& symbols, uint32_t left, Workspace& workspace) const {
  if (left == kNone || workspace.next[left] == kNone) return;
  const Entry* entry = find(symbols[left], symbols[workspace.next[left]]);
  if (!entry) return;
  workspace.heap.push_back({entry->rank, left, entry->result});
  std::push_heap(workspace.heap.begin(), workspace.heap.end(), LaterFirst());
}

void BpeMerges::apply(std::vector<int32_t>& symbols, Workspace& workspace) const {
  if (symbols.size() < 2) return;
  FOVEA_CHECK(symbols.size() < kNone);
  auto& [next, previous, heap] = workspace;
  next.resize(symbols.size());
  previous.resize(symbols.size());
  heap.clear();
  for (uint32_t i = 0; i < symbols.size(); ++i) {
    previous[i] = i == 0 ? kNone : i - 1;
    next[i] = i + 1 == symbols.size() ? kNone : i + 1;
  }
  for (uint32_t i = 0; i < symbols.size(); ++i) propose(symbols, i, workspace);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), LaterFirst());
    const auto [rank, left, result] = heap.back();
    heap.pop_back();
    // Stale unless these neighbours still merge this way: the text of a pair at one place only ever grows, so
    // an equal result means an unchanged pair.
    if (symbols[left] == kGone || next[left] == kNone) continue;
    const uint32_t right = next[left];
    const Entry* entry = find(symbols[left], symbols[right]);
    if (!entry || entry->result != result || entry->rank != rank) continue;
    symbols[left] = result;
    symbols[right] = kGone;
    next[left] = next[right];
    if (next[left] != kNone) previous[next[left]] = left;
    propose(symbols, previous[left], workspace);
    propose(symbols, left, workspace);
  }
  std::erase(symbols, kGone);
}

}  // namespace fovea
