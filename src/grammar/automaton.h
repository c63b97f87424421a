// A pushdown automaton over bytes: rules that read bytes and call each other, as many readings at once as a
// text allows. What a grammar is before tokens are looked at.
//
// A rule is entered at its start node and left from any final one. A node goes on by a byte, by calling a
// rule (then `to` is where it comes back), or by an empty step. A frame of the stack is a node and a count:
// arriving at a node that `counts` adds one to it, and guarded edges are open while the count is below the
// node's `most`, or from its `least` on. So one node stands for every length of a string or list.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace fovea {

enum class EdgeGuard : uint8_t { open, below_most, from_least };

struct ByteEdge {
  uint8_t low, high;
  EdgeGuard guard;
  int32_t to;
};

struct CallEdge {
  static constexpr int32_t kNothing = -1;  // as the rule: an empty step
  int32_t rule;
  int32_t to;
  EdgeGuard guard;
};

struct AutomatonNode {
  static constexpr int32_t kNoMost = std::numeric_limits<int32_t>::max();
  static constexpr int32_t kNever = std::numeric_limits<int32_t>::max();
  std::vector<ByteEdge> bytes;
  std::vector<CallEdge> calls;
  int32_t least = 0, most = 0;  // the same at all nodes of a rule that counts
  int32_t need = kNever;        // frames above this one that it takes to leave the rule, at least; finish()
  bool counts = false, final = false;
  bool simple = false;  // no call lies ahead within the rule, and at most one edge takes a byte; finish()
  std::vector<uint8_t> edge_of;  // of a simple node with many edges: the edge's place by byte, or kNoEdge

  static constexpr uint8_t kNoEdge = 255;
  // Of a simple node; null where it does not go on.
  const ByteEdge* edge(uint8_t byte) const {
    if (!edge_of.empty()) return edge_of[byte] == kNoEdge ? nullptr : &bytes[edge_of[byte]];
    for (const ByteEdge& one : bytes) {
      if (byte <= one.high) return byte >= one.low ? &one : nullptr;
    }
    return nullptr;
  }
};

class Automaton {
 public:
  static constexpr size_t kMostNodes = 200'000, kMostEdges = 1'000'000;
  static constexpr size_t kMostWork = 20'000'000;

  // Throw Error(exhausted) where the automaton becomes larger than these, or takes more steps to make.
  void charge(size_t work);
  int32_t add_node(bool final = false);
  int32_t add_rule(int32_t start);
  // A rule whose start is not known yet; set_start() follows.
  int32_t add_rule() { return add_rule(-1); }
  void set_start(int32_t rule, int32_t start) { starts_[static_cast<size_t>(rule)] = start; }
  void on_byte(int32_t from, uint8_t low, uint8_t high, int32_t to, EdgeGuard guard = EdgeGuard::open);
  void on_call(int32_t from, int32_t rule, int32_t to, EdgeGuard guard = EdgeGuard::open);
  void on_nothing(int32_t from, int32_t to) { on_call(from, CallEdge::kNothing, to); }
  // Reads `bytes` and returns where it ends.
  int32_t on_text(int32_t from, const char* bytes);

  // Removes what leads nowhere, so that whatever was begun can be ended, and fills in what nodes say of
  // themselves. Returns false where the rule accepts nothing at all. Throws Error(invalid_argument) where a
  // rule calls itself without having read anything.
  bool finish(int32_t root);

  const AutomatonNode& node(int32_t index) const { return nodes_[static_cast<size_t>(index)]; }
  AutomatonNode& node(int32_t index) { return nodes_[static_cast<size_t>(index)]; }
  int32_t start(int32_t rule) const { return starts_[static_cast<size_t>(rule)]; }
  int32_t root() const { return root_; }  // a rule
  size_t nodes() const { return nodes_.size(); }
  int64_t bytes() const;  // of memory

 private:
  struct Use {
    int32_t from, rule, to;
  };
  // By node: the calls and empty steps, and with bytes all steps, that end there or whose rule begins there.
  std::vector<std::vector<Use>> uses(bool with_bytes) const;
  std::vector<bool> blank_nodes() const;
  void find_needs();
  void remove_dead_ends();
  void refuse_endless_calls() const;
  void mark_simple();
  void index_edges();
  void count_edge();

  std::vector<AutomatonNode> nodes_;
  std::vector<int32_t> starts_;  // of the rules
  size_t edges_ = 0, work_ = 0;
  int64_t indexed_bytes_ = 0;
  int32_t root_ = -1;
};

}  // namespace fovea
