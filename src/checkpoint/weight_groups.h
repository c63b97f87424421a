// Which weights are used together. A forward pass takes the matrices of one group after the other, always in
// the same order, so that the next can be fetched while one computes. Vectors (norms, biases) are small,
// belong to no group and always stay in memory; so does nothing of the embedding, whose rows are looked up
// one by one.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace fovea {

// Rows of a tensor, and where they lie when their group is in memory.
struct GroupPart {
  const TensorInfo* tensor = nullptr;  // borrowed from the checkpoint
  int64_t first_row = 0, rows = 0;
  int64_t offset = 0, bytes = 0;  // in the tensor's file
  int64_t at = 0;  // from the beginning of the group's memory; as far into a page as `offset` (direct_file.h)
};

struct WeightGroup {
  std::string name;  // "model.language_model.layers.3"
  std::vector<GroupPart> parts;
  int64_t bytes = 0;  // of memory, whole pages
};

// Consecutive groups, those of one tower.
struct GroupRange {
  int64_t first = 0, last = 0;  // [first, last)
  bool operator==(const GroupRange&) const = default;
};

class WeightGroups {
 public:
  // In the order of use: patch embedding, blocks, merger; layers, output head. The head is cut into pieces no
  // larger than the largest layer.
  explicit WeightGroups(const Checkpoint& checkpoint);

  const std::vector<WeightGroup>& all() const { return groups_; }
  const WeightGroup& operator[](int64_t group) const { return groups_[static_cast<size_t>(group)]; }
  GroupRange vision() const { return {0, depth_ + 2}; }
  GroupRange text() const { return {depth_ + 2, static_cast<int64_t>(groups_.size())}; }

  int64_t patch_embed() const { return 0; }
  int64_t block(int64_t i) const { return 1 + i; }
  int64_t merger() const { return 1 + depth_; }
  int64_t layer(int64_t i) const { return 2 + depth_ + i; }
  int64_t head(int64_t piece) const { return 2 + depth_ + layers_ + piece; }
  int64_t head_pieces() const { return static_cast<int64_t>(groups_.size()) - head(0); }

  int64_t largest(const GroupRange& range) const;  // bytes of the largest group
  int64_t total(const GroupRange& range) const;

 private:
  int64_t depth_ = 0, layers_ = 0;
  std::vector<WeightGroup> groups_;
};

// With ZeRO stage 3, of `bytes` of a matrix rank r of R stores those from zero_cut(bytes, r, R) to
// zero_cut(bytes, r + 1, R).
int64_t zero_cut(int64_t bytes, int64_t rank, int64_t ranks);

// All that a rank stores: of every group, and of an embedding that is no output head.
int64_t zero_share(const Checkpoint& checkpoint, const WeightGroups& groups, int64_t rank, int64_t ranks);

// What stays in memory while the groups of one range are used in turn, over and over.
struct Residency {
  std::vector<bool> kept;  // of all groups
  int64_t kept_bytes = 0;
  int64_t slot_bytes = 0;  // each of two buffers through which the others of the range go; 0: there are none
  int64_t bytes() const { return kept_bytes + 2 * slot_bytes; }
};

// The choice that uses at most `bytes`, spread evenly over the range so that reading and computing alternate.
// `held`: groups in memory now, of which those outside the range may stay: only in what the range leaves, or
// (range_first false) before it. The same choice with less memory is about a part of the one with more.
Residency choose_residency(const WeightGroups& groups, const GroupRange& range, const std::vector<bool>& held,
                           int64_t bytes, bool range_first = true);

// The least memory with which choose_residency finds a way.
int64_t least_residency(const WeightGroups& groups, const GroupRange& range);

}  // namespace fovea
