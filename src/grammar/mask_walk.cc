#include "grammar/mask_walk.h"

#include <algorithm>

namespace fovea {

namespace {

void insert(std::span<uint64_t> words, int32_t id) {
  words[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
}

const ByteEdge* edge_of(const AutomatonNode& node, uint8_t byte) {
  for (const ByteEdge& edge : node.bytes) {
    if (byte <= edge.high) return byte >= edge.low ? &edge : nullptr;
  }
  return nullptr;
}

bool is_open(const ByteEdge& edge, const AutomatonNode& node, int32_t count) {
  if (edge.guard == EdgeGuard::open) return true;
  return edge.guard == EdgeGuard::below_most ? count < node.most : count >= node.least;
}

}  // namespace

int32_t representative_count(const AutomatonNode& node, int32_t count, int32_t longest_token) {
  if (node.most == 0) return 0;  // its rule does not count
  if (count < node.least) return node.least - count > longest_token ? 0 : count;
  return node.most - count > longest_token ? node.least : count;
}

void MaskWalk::add(const FrameStack& stack, int32_t frame) {
  const Frame& top = stack.frame(frame);
  const auto mask = mask_of(top.node, top.count);
  if (top.depth + mask->deepest_need > kDeepestStack) return add_exactly(stack, frame);
  mask->allowed.add_to(words_);
  if (top.parent == Frame::kBottom || mask->ends.empty()) return;
  FrameStack below(grammar_.automaton_, kDeepestStack);
  Readings left;
  below.enter(copy_stack(stack, top.parent, below), left);
  std::vector<Level> levels(static_cast<size_t>(trie_.longest()) + 1);
  levels[0] = {left, below.size()};
  for (const int32_t end : mask->ends) walk(end, below, levels, words_, nullptr);
}

// Near the deepest stack, where what a token may begin depends on how deep it is.
void MaskWalk::add_exactly(const FrameStack& stack, int32_t frame) {
  FrameStack own(grammar_.automaton_, kDeepestStack);
  std::vector<Level> levels(static_cast<size_t>(trie_.longest()) + 1);
  own.enter(copy_stack(stack, frame, own), levels[0].readings);
  levels[0].frames = own.size();
  walk(0, own, levels, words_, nullptr);
}

int32_t MaskWalk::copy_stack(const FrameStack& from, int32_t frame, FrameStack& to) const {
  std::vector<int32_t> chain;
  for (; frame != Frame::kBottom; frame = from.frame(frame).parent) chain.push_back(frame);
  int32_t parent = Frame::kBottom;
  for (size_t i = chain.size(); i-- > 0;) {
    parent = to.push(from.frame(chain[i]).node, from.frame(chain[i]).count, parent);
  }
  return parent;
}

std::shared_ptr<const StateMask> MaskWalk::mask_of(int32_t node, int32_t count) {
  const int32_t same = representative_count(grammar_.automaton_.node(node), count, trie_.longest());
  std::string key(sizeof node + sizeof same, '\0');
  std::copy_n(reinterpret_cast<const char*>(&node), sizeof node, key.data());
  std::copy_n(reinterpret_cast<const char*>(&same), sizeof same, key.data() + sizeof node);
  if (auto known = grammar_.states_.find(key)) return known;
  return grammar_.states_.put(key, state_mask(node, same));
}

StateMask MaskWalk::state_mask(int32_t node, int32_t count) const {
  std::vector<uint64_t> words(words_.size());
  std::vector<int32_t> ends;
  if (grammar_.automaton_.node(node).simple) {
    simple_tokens(node, count, words, ends);
    return {TokenSet(words), std::move(ends), 0};
  }
  FrameStack stack(grammar_.automaton_, std::numeric_limits<int32_t>::max());
  std::vector<Level> levels(static_cast<size_t>(trie_.longest()) + 1);
  // The frame waits for a byte: what it calls waits beside it, in frames of its own.
  levels[0].readings.waiting.push_back(stack.push(node, count, Frame::kBottom));
  levels[0].frames = stack.size();
  walk(0, stack, levels, words, &ends);
  return {TokenSet(words), std::move(ends), stack.deepest_need()};
}

// As walk(), where a single frame is enough.
void MaskWalk::simple_tokens(int32_t node, int32_t count, std::span<uint64_t> words,
                             std::vector<int32_t>& ends) const {
  struct Place {
    int32_t node, count;
  };
  const Automaton& automaton = grammar_.automaton_;
  const auto nodes = trie_.nodes();
  std::vector<Place> places(static_cast<size_t>(trie_.longest()) + 1);
  places[0] = {node, count};
  for (int32_t i = 1; i < std::ssize(nodes);) {
    const TokenTrie::Node& at = nodes[static_cast<size_t>(i)];
    const Place from = places[static_cast<size_t>(at.depth) - 1];
    const AutomatonNode& state = automaton.node(from.node);
    const ByteEdge* edge = edge_of(state, at.byte);
    if (edge == nullptr || !is_open(*edge, state, from.count)) {
      i = at.end;
      continue;
    }
    const AutomatonNode& next = automaton.node(edge->to);
    places[at.depth] = {edge->to, next.counts ? from.count + 1 : from.count};
    for (const int32_t id : trie_.ids_at(at)) insert(words, id);
    if (next.final && at.end > i + 1) ends.push_back(i);
    ++i;
  }
}

void MaskWalk::walk(int32_t below, FrameStack& stack, std::vector<Level>& levels, std::span<uint64_t> words,
                    std::vector<int32_t>* ends) const {
  const auto nodes = trie_.nodes();
  const int32_t base = nodes[static_cast<size_t>(below)].depth;
  for (int32_t i = below + 1; i < nodes[static_cast<size_t>(below)].end;) {
    const TokenTrie::Node& at = nodes[static_cast<size_t>(i)];
    const Level& from = levels[static_cast<size_t>(at.depth - base) - 1];
    Level& to = levels[static_cast<size_t>(at.depth - base)];
    stack.cut(from.frames);
    stack.read(from.readings, at.byte, to.readings);
    to.frames = stack.size();
    if (to.readings.waiting.empty() && !to.readings.complete) {
      i = at.end;
      continue;
    }
    for (const int32_t id : trie_.ids_at(at)) insert(words, id);
    if (ends != nullptr && to.readings.complete && at.end > i + 1) ends->push_back(i);
    ++i;
  }
}

}  // namespace fovea
