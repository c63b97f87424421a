// Which tokens may come next in an answer that must follow a grammar. A grammar is compiled once
// (grammar/grammar_compiler.h) and shared; each answer has a matcher of its own.
#pragma once

#include <memory>

#include "grammar/automaton.h"
#include "grammar/mask_cache.h"
#include "grammar/readings.h"
#include "grammar/token_trie.h"

namespace fovea {

// Immutable but for its memory of masks, which is bounded. Any thread.
class Grammar {
 public:
  // Masks are kept within so many bytes: a quarter each for states and for what counts, half for whole
  // stacks.
  static constexpr int64_t kMaskBytes = int64_t{16} << 20;

  // The automaton is finished.
  Grammar(Automaton automaton, std::shared_ptr<const TokenTrie> trie);

  const Automaton& automaton() const { return automaton_; }
  const TokenTrie& trie() const { return *trie_; }
  int64_t bytes() const;  // of memory, without the trie

 private:
  friend class GrammarMatcher;
  friend class MaskWalk;

  Automaton automaton_;
  std::shared_ptr<const TokenTrie> trie_;
  mutable MaskCache<StateMask> states_;
  mutable MaskCache<CountedMask> counted_;
  mutable MaskCache<TokenSet> stacks_;
};

// Follows one answer. For one thread at a time.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(std::shared_ptr<const Grammar> grammar);

  // The tokens that are text and may come next: every byte of theirs fits, and the answer can then still be
  // ended. Never empty unless is_complete().
  std::shared_ptr<const TokenSet> allowed() const;
  // The answer may end here.
  bool is_complete() const { return readings_.complete; }
  // Takes a token's bytes, or any. False where they do not fit; then the matcher is as it was.
  bool accept(int32_t id);
  bool accept(std::string_view bytes);

 private:
  void tidy();
  std::string key() const;

  std::shared_ptr<const Grammar> grammar_;
  FrameStack stack_;
  Readings readings_;
};

}  // namespace fovea
