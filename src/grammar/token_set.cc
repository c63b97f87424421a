#include "grammar/token_set.h"

#include <algorithm>
#include <bit>

namespace fovea {

TokenSet::TokenSet(std::span<const uint64_t> words) {
  for (const uint64_t word : words) count_ += std::popcount(word);
  if (static_cast<size_t>(count_) > words.size()) {  // a list would take more than half of the words' memory
    words_.assign(words.begin(), words.end());
    return;
  }
  few_.reserve(static_cast<size_t>(count_));
  for (size_t w = 0; w < words.size(); ++w) {
    for (uint64_t word = words[w]; word != 0; word &= word - 1) {
      few_.push_back(static_cast<int32_t>(w * 64 + static_cast<size_t>(std::countr_zero(word))));
    }
  }
}

void TokenSet::forbid_others(std::span<uint64_t> forbidden) const {
  if (words_.empty()) {
    std::vector<uint64_t> kept(few_.size());  // what these ids' words forbade before
    for (size_t i = 0; i < few_.size(); ++i) {
      const auto id = static_cast<size_t>(few_[i]);
      kept[i] = id / 64 < forbidden.size() ? forbidden[id / 64] >> (id % 64) & 1 : 1;
    }
    std::fill(forbidden.begin(), forbidden.end(), ~uint64_t{0});
    for (size_t i = 0; i < few_.size(); ++i) {
      const auto id = static_cast<size_t>(few_[i]);
      if (kept[i] == 0) forbidden[id / 64] &= ~(uint64_t{1} << (id % 64));
    }
    return;
  }
  const size_t known = std::min(forbidden.size(), words_.size());
  for (size_t w = 0; w < known; ++w) forbidden[w] |= ~words_[w];
  std::fill(forbidden.begin() + static_cast<std::ptrdiff_t>(known), forbidden.end(), ~uint64_t{0});
}

void TokenSet::add_to(std::span<uint64_t> words) const {
  for (size_t w = 0; w < words_.size(); ++w) words[w] |= words_[w];
  for (const int32_t id : few_) words[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
}

}  // namespace fovea
