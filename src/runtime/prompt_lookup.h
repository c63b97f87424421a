// Prompt lookup: announces the next tokens by what once followed the same words in prompt or answer.
// Transcripts and JSON repeat themselves; a guess costs no model and no search.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace fovea {

// Every n-gram of the tokens so far with the place behind its latest occurrence, in hash tables; O(1) a
// token.
class PromptLookup {
 public:
  static constexpr int64_t kShortest = 2, kLongest = 4;  // tokens of an n-gram

  // Allocates for `capacity` tokens, and nothing afterwards. `barred` ids, the placeholders of pictures, are
  // never announced and are part of no n-gram.
  PromptLookup(int64_t capacity, std::vector<int64_t> barred);

  // Takes in the tokens of `ids` behind those that it knows, at most `capacity` in all.
  void extend(std::span<const int32_t> ids);

  // The length of the longest n-gram that ends the known tokens and stood there before and says what follows;
  // 0 without one.
  int64_t match() const { return match_; }

  // The first token that is announced; wants a match.
  int32_t next() const { return ids_[static_cast<size_t>(source_)]; }
  // The `most` tokens that followed that occurrence, fewer before a barred one; nothing without a match.
  // Where the known tokens end it goes on in the copy, so that a period of any length continues.
  void announce(int64_t most, std::vector<int32_t>& to) const;

 private:
  static constexpr int64_t kLengths = kLongest - kShortest + 1;

  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  bool barred(int32_t id) const;
  void append(int32_t id);
  // The entry of the n-gram that ends the known tokens, or the free one that it would take.
  int32_t& entry(int64_t n);

  std::vector<int64_t> barred_;
  std::vector<int32_t> ids_;
  // By length: the place behind an n-gram's latest occurrence, 0 where free; open addressing, at most half
  // full.
  std::array<std::vector<int32_t>, kLengths> tables_;
  int64_t words_ = 0;               // tokens since the last barred one
  int64_t match_ = 0, source_ = 0;  // what followed begins at source_
};

}  // namespace fovea
