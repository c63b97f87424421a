// Byte-pair merging: of all neighbours that may merge, the pair of the lowest rank (leftmost among equals)
// goes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fovea {

class BpeMerges {
 public:
  // Room for `count` merges.
  explicit BpeMerges(size_t count);

  // Neighbours `left`, `right` may become `result`. A pair stated again takes its new rank, as in the
  // reference.
  void add(int32_t left, int32_t right, uint32_t rank, int32_t result);

  // Working memory of apply(), kept between calls so that short pieces allocate nothing.
  class Workspace;
  // Merges `symbols` in place until no pair is left. O(n log n).
  void apply(std::vector<int32_t>& symbols, Workspace& workspace) const;

 private:
  struct Entry {
    uint64_t pair = kEmpty;
    uint32_t rank = 0;
    int32_t result = 0;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};  // ids are not negative, so no pair has this key
  const Entry* find(int32_t left, int32_t right) const;
  size_t slot_of(uint64_t pair) const;
  void propose(const std::vector<int32_t>& symbols, uint32_t left, Workspace& workspace) const;

  std::vector<Entry> table_;  // open addressing, a power of two, at most half full
  int shift_ = 0;
};

class BpeMerges::Workspace {
  friend class BpeMerges;
  struct Candidate {
    uint32_t rank, left;
    int32_t result;
  };
  std::vector<uint32_t> next, previous;  // neighbours still standing
  std::vector<Candidate> heap;
};

}  // namespace fovea
