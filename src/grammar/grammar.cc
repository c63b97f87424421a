#include "grammar/grammar.h"

#include <map>
#include <tuple>

#include "base/error.h"
#include "grammar/mask_walk.h"

namespace fovea {

Grammar::Grammar(Automaton automaton, std::shared_ptr<const TokenTrie> trie)
    : automaton_(std::move(automaton)),
      trie_(std::move(trie)),
      states_(kMaskBytes / 4),
      counted_(kMaskBytes / 4),
      stacks_(kMaskBytes / 2) {}

int64_t Grammar::bytes() const {
  return automaton_.bytes() + states_.bytes() + counted_.bytes() + stacks_.bytes();
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar)
    : grammar_(std::move(grammar)), stack_(grammar_->automaton_, kDeepestStack) {
  const Automaton& automaton = grammar_->automaton_;
  stack_.enter(stack_.push(automaton.start(automaton.root()), 0, Frame::kBottom), readings_);
  tidy();
}

std::shared_ptr<const TokenSet> GrammarMatcher::allowed() const {
  const std::string same = key();
  if (auto known = grammar_->stacks_.find(same)) return known;
  MaskWalk walk(*grammar_);
  for (const int32_t frame : readings_.waiting) walk.add(stack_, frame);
  return grammar_->stacks_.put(same, TokenSet(walk.words()));
}

bool GrammarMatcher::accept(int32_t id) {
  const std::string_view bytes = grammar_->trie_->bytes_of(id);
  return !bytes.empty() && accept(bytes);
}

bool GrammarMatcher::accept(std::string_view bytes) {
  const size_t size = stack_.size();
  Readings before = readings_, after;
  for (const char byte : bytes) {
    stack_.read(before, static_cast<uint8_t>(byte), after);
    std::swap(before, after);
    if (before.waiting.empty() && !before.complete) {
      stack_.cut(size);
      return false;
    }
  }
  readings_ = std::move(before);
  tidy();
  return true;
}

// Keeps only the frames that something waits in or will come back to, equal ones once.
void GrammarMatcher::tidy() {
  FrameStack kept(grammar_->automaton_, kDeepestStack);
  std::map<std::tuple<int32_t, int32_t, int32_t>, int32_t> known;
  std::vector<int32_t> moved(stack_.size(), Frame::kBottom), chain;
  for (int32_t& waiting : readings_.waiting) {
    chain.clear();
    for (int32_t at = waiting; at != Frame::kBottom && moved[static_cast<size_t>(at)] == Frame::kBottom;
         at = stack_.frame(at).parent) {
      chain.push_back(at);
    }
    for (size_t i = chain.size(); i-- > 0;) {
      const Frame& frame = stack_.frame(chain[i]);
      const int32_t parent =
          frame.parent == Frame::kBottom ? Frame::kBottom : moved[static_cast<size_t>(frame.parent)];
      auto [entry, is_new] = known.emplace(std::tuple(frame.node, frame.count, parent), 0);
      if (is_new) entry->second = kept.push(frame.node, frame.count, parent);
      moved[static_cast<size_t>(chain[i])] = entry->second;
    }
    waiting = moved[static_cast<size_t>(waiting)];
  }
  stack_.swap(kept);
}

// Frames that behave alike as far as any token reaches have the same key.
std::string GrammarMatcher::key() const {
  std::string key;
  const auto append = [&](int32_t number) {
    key.append(reinterpret_cast<const char*>(&number), sizeof number);
  };
  for (size_t i = 0; i < stack_.size(); ++i) {
    const Frame& frame = stack_.frame(static_cast<int32_t>(i));
    append(frame.node);
    append(
        representative_count(grammar_->automaton_.node(frame.node), frame.count, grammar_->trie_->longest()));
    append(frame.parent);
  }
  append(-2);
  for (const int32_t waiting : readings_.waiting) append(waiting);
  return key;
}

}  // namespace fovea
