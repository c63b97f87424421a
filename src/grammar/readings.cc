#include "grammar/readings.h"

#include <algorithm>

namespace fovea {

int32_t FrameStack::push(int32_t node, int32_t count, int32_t parent) {
  frames_.push_back({node, count, parent, parent == Frame::kBottom ? 0 : frame(parent).depth + 1});
  return static_cast<int32_t>(frames_.size()) - 1;
}

int32_t FrameStack::arrived(int32_t node, int32_t count) const {
  return automaton_.node(node).counts && count < AutomatonNode::kNoMost ? count + 1 : count;
}

bool FrameStack::is_open(EdgeGuard guard, const Frame& frame) const {
  if (guard == EdgeGuard::open) return true;
  const AutomatonNode& node = automaton_.node(frame.node);
  return guard == EdgeGuard::below_most ? frame.count < node.most : frame.count >= node.least;
}

bool FrameStack::equal(int32_t a, int32_t b) const {
  while (a != b) {
    if (a == Frame::kBottom || b == Frame::kBottom) return false;
    const Frame &x = frame(a), &y = frame(b);
    if (x.node != y.node || x.count != y.count || x.depth != y.depth) return false;
    a = x.parent;
    b = y.parent;
  }
  return true;
}

bool FrameStack::fits(int32_t node, int32_t depth) {
  const int32_t need = depth + automaton_.node(node).need;
  deepest_need_ = std::max(deepest_need_, need);
  return need <= deepest_;
}

// Follows calls, returns and empty steps; each frame once.
void FrameStack::add(int32_t index, Readings& to) {
  for (const int32_t known : entered_) {
    if (equal(known, index)) return;
  }
  if (entered_.size() >= kMostReadings * 4) return;
  entered_.push_back(index);
  const Frame at = frame(index);  // frames_ moves below
  const AutomatonNode& node = automaton_.node(at.node);
  if (!node.bytes.empty() && to.waiting.size() < kMostReadings) to.waiting.push_back(index);
  for (const CallEdge& edge : node.calls) {
    if (!is_open(edge.guard, at) || !fits(edge.to, at.depth)) continue;
    const int32_t back_at = arrived(edge.to, at.count);
    if (edge.rule == CallEdge::kNothing) {
      add(push(edge.to, back_at, at.parent), to);
    } else if (fits(automaton_.start(edge.rule), at.depth + 1)) {
      add(push(automaton_.start(edge.rule), 0, push(edge.to, back_at, at.parent)), to);
    }
  }
  if (!node.final) return;
  if (at.parent == Frame::kBottom) {
    to.complete = true;
  } else {
    add(at.parent, to);
  }
}

void FrameStack::enter(int32_t index, Readings& to) {
  entered_.clear();
  add(index, to);
}

void FrameStack::read(const Readings& from, uint8_t byte, Readings& to) {
  to.waiting.clear();
  to.complete = false;
  entered_.clear();
  for (const int32_t index : from.waiting) {
    const Frame at = frame(index);
    for (const ByteEdge& edge : automaton_.node(at.node).bytes) {
      if (byte < edge.low || byte > edge.high || !is_open(edge.guard, at) || !fits(edge.to, at.depth))
        continue;
      add(push(edge.to, arrived(edge.to, at.count), at.parent), to);
    }
  }
}

}  // namespace fovea
