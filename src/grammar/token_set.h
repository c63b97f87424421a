// A set of token ids: a list where they are few, a bit for each id where they are many.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fovea {

class TokenSet {
 public:
  // The ids whose bit is set: bit i of word w is id 64 w + i.
  explicit TokenSet(std::span<const uint64_t> words);

  // Sets the bit of every id that is not in the set, in words for any number of ids.
  void forbid_others(std::span<uint64_t> forbidden) const;
  void add_to(std::span<uint64_t> words) const;
  bool empty() const { return count_ == 0; }
  int64_t count() const { return count_; }
  int64_t bytes() const {
    return static_cast<int64_t>(words_.size() * sizeof(uint64_t) + few_.size() * sizeof(int32_t));
  }

 private:
  std::vector<uint64_t> words_;  // empty where `few_` has them all
  std::vector<int32_t> few_;
  int64_t count_ = 0;
};

}  // namespace fovea
