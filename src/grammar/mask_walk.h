// The tokens that some readings allow, found by walking the trie; private to grammar.
#pragma once

#include "grammar/grammar.h"

namespace fovea {

class MaskWalk {
 public:
  explicit MaskWalk(const Grammar& grammar)
      : grammar_(grammar), trie_(*grammar.trie_), words_((static_cast<size_t>(trie_.size()) + 63) / 64) {}

  // Adds what a waiting frame of `stack`, with everything below it, allows.
  void add(const FrameStack& stack, int32_t frame);
  std::span<const uint64_t> words() const { return words_; }

 private:
  struct Level {
    Readings readings;
    size_t frames = 0;  // of the stack, when this level was left
  };

  // What a node allows by itself, its frame being the lowest.
  std::shared_ptr<const StateMask> mask_of(int32_t node, int32_t count);
  StateMask state_mask(int32_t node, int32_t count) const;
  // As state_mask(), where a single frame is enough; and where its rule counts.
  StateMask simple_mask(int32_t node) const;
  StateMask counted_mask(int32_t node, int32_t count) const;
  CountedMask counted_tokens(int32_t node) const;
  // Walks what stands below a node of the trie, behind whose bytes `levels[0]` is what can be read. `ends`,
  // where wanted, receives where the bottom was left.
  void walk(int32_t below, FrameStack& stack, std::vector<Level>& levels, std::span<uint64_t> words,
            std::vector<int32_t>* ends) const;
  void add_exactly(const FrameStack& stack, int32_t frame);
  int32_t copy_stack(const FrameStack& from, int32_t frame, FrameStack& to) const;

  const Grammar& grammar_;
  const TokenTrie& trie_;
  std::vector<uint64_t> words_;
};

// A count that behaves like this one as far as any token reaches, the same for as many counts as can be.
int32_t representative_count(const AutomatonNode& node, int32_t count, int32_t longest_token);

}  // namespace fovea
