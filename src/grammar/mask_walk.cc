#include "grammar/mask_walk.h"

#include <algorithm>

namespace fovea {

namespace {

void insert(std::span<uint64_t> words, int32_t id) {
  words[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
}

std::string key_of(int32_t node, int32_t count) {
  std::string key(sizeof node + sizeof count, '\0');
  std::copy_n(reinterpret_cast<const char*>(&node), sizeof node, key.data());
  std::copy_n(reinterpret_cast<const char*>(&count), sizeof count, key.data() + sizeof node);
  return key;
}

// Goes over the trie from front to back. `step` makes the place behind a byte of the one before it, or says
// that the byte does not fit, which leaves out what stands below; `arrive` is shown what fits.
template <class Place, class Step, class Arrive>
void walk_simple(const TokenTrie& trie, const Place& start, const Step& step, const Arrive& arrive) {
  const auto nodes = trie.nodes();
  std::vector<Place> places(static_cast<size_t>(trie.longest()) + 1);
  places[0] = start;
  for (int32_t i = 1; i < std::ssize(nodes);) {
    const TokenTrie::Node& at = nodes[static_cast<size_t>(i)];
    if (!step(places[at.depth - size_t{1}], at.byte, places[at.depth])) {
      i = at.end;
      continue;
    }
    arrive(i, at, places[at.depth]);
    ++i;
  }
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
  const std::string key = key_of(node, same);
  if (auto known = grammar_.states_.find(key)) return known;
  return grammar_.states_.put(key, state_mask(node, same));
}

StateMask MaskWalk::state_mask(int32_t node, int32_t count) const {
  const AutomatonNode& state = grammar_.automaton_.node(node);
  if (state.simple && state.most == 0) return simple_mask(node);
  if (state.simple && trie_.longest() < CountedMask::kNone) return counted_mask(node, count);
  std::vector<uint64_t> words(words_.size());
  std::vector<int32_t> ends;
  FrameStack stack(grammar_.automaton_, std::numeric_limits<int32_t>::max());
  std::vector<Level> levels(static_cast<size_t>(trie_.longest()) + 1);
  // The frame waits for a byte: what it calls waits beside it, in frames of its own.
  levels[0].readings.waiting.push_back(stack.push(node, count, Frame::kBottom));
  levels[0].frames = stack.size();
  walk(0, stack, levels, words, &ends);
  return {TokenSet(words), std::move(ends), stack.deepest_need()};
}

StateMask MaskWalk::simple_mask(int32_t node) const {
  const Automaton& automaton = grammar_.automaton_;
  std::vector<uint64_t> words(words_.size());
  std::vector<int32_t> ends;
  walk_simple(
      trie_, node,
      [&](int32_t from, uint8_t byte, int32_t& to) {
        const ByteEdge* edge = automaton.node(from).edge(byte);
        if (edge == nullptr) return false;
        to = edge->to;
        return true;
      },
      [&](int32_t i, const TokenTrie::Node& at, int32_t place) {
        for (const int32_t id : trie_.ids_at(at)) insert(words, id);
        if (at.end > i + 1 && automaton.node(place).final) ends.push_back(i);
      });
  return {TokenSet(words), std::move(ends), 0};
}

CountedMask MaskWalk::counted_tokens(int32_t node) const {
  struct Place {
    int32_t node;
    uint8_t whole, begun, closed;
  };
  const Automaton& automaton = grammar_.automaton_;
  CountedMask mask;
  mask.begun.assign(static_cast<size_t>(trie_.size()), CountedMask::kNone);
  mask.whole.assign(static_cast<size_t>(trie_.size()), CountedMask::kNone);
  walk_simple(
      trie_, Place{node, 0, 0, CountedMask::kNone},
      [&](const Place& from, uint8_t byte, Place& to) {
        const ByteEdge* edge = automaton.node(from.node).edge(byte);
        if (edge == nullptr) return false;
        to = from;
        to.node = edge->to;
        if (edge->guard == EdgeGuard::below_most) to.begun = static_cast<uint8_t>(from.whole + 1);
        if (edge->guard == EdgeGuard::from_least) to.closed = from.whole;
        if (automaton.node(edge->to).counts) ++to.whole;
        return true;
      },
      [&](int32_t i, const TokenTrie::Node& at, const Place& place) {
        for (const int32_t id : trie_.ids_at(at)) {
          mask.begun[static_cast<size_t>(id)] = place.begun;
          mask.whole[static_cast<size_t>(id)] = place.closed;
        }
        if (at.end > i + 1 && automaton.node(place.node).final)
          mask.ends.push_back({i, place.begun, place.closed});
      });
  return mask;
}

// What begins a character asks whether the count, with those that were whole by then, is below the most; what
// closes the string, whether it is at least the least.
StateMask MaskWalk::counted_mask(int32_t node, int32_t count) const {
  const std::string key = key_of(node, 0);
  auto counted = grammar_.counted_.find(key);
  if (!counted) counted = grammar_.counted_.put(key, counted_tokens(node));
  const AutomatonNode& state = grammar_.automaton_.node(node);
  const int32_t most = std::min<int32_t>(state.most - count, CountedMask::kNone - 1),
                least = std::clamp<int32_t>(state.least - count, 0, CountedMask::kNone);
  const auto fits = [&](uint8_t begun, uint8_t whole) -> uint64_t {
    return static_cast<uint64_t>(begun <= most) & static_cast<uint64_t>(whole >= least);
  };
  std::vector<uint64_t> words(words_.size());
  for (size_t id = 0; id < counted->begun.size(); ++id) {
    words[id / 64] |= fits(counted->begun[id], counted->whole[id]) << (id % 64);
  }
  std::vector<int32_t> ends;
  for (const CountedMask::End& end : counted->ends) {
    if (fits(end.begun, end.whole) != 0) ends.push_back(end.at);
  }
  return {TokenSet(words), std::move(ends), 0};
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
