#include "grammar/automaton.h"

#include <algorithm>
#include <queue>

#include "base/error.h"

namespace fovea {

namespace {

[[noreturn]] void refuse_size() {
  throw Error(ErrorKind::exhausted,
              fmt::format("the schema is too large: it needs more than {} states or {} transitions, or too "
                          "much time to find them",
                          Automaton::kMostNodes, Automaton::kMostEdges),
              "give it fewer properties, shorter enums, shorter repetitions in patterns");
}

}  // namespace

void Automaton::charge(size_t work) {
  work_ += work;
  if (work_ > kMostWork) refuse_size();
}

int32_t Automaton::add_node(bool final) {
  if (nodes_.size() == kMostNodes) refuse_size();
  nodes_.emplace_back().final = final;
  return static_cast<int32_t>(nodes_.size()) - 1;
}

int32_t Automaton::add_rule(int32_t start) {
  if (starts_.size() == kMostNodes) refuse_size();
  starts_.push_back(start);
  return static_cast<int32_t>(starts_.size()) - 1;
}

void Automaton::count_edge() {
  if (++edges_ > kMostEdges) refuse_size();
}

void Automaton::on_byte(int32_t from, uint8_t low, uint8_t high, int32_t to, EdgeGuard guard) {
  count_edge();
  node(from).bytes.push_back({low, high, guard, to});
}

void Automaton::on_call(int32_t from, int32_t rule, int32_t to, EdgeGuard guard) {
  count_edge();
  node(from).calls.push_back({rule, to, guard});
}

int32_t Automaton::on_text(int32_t from, const char* bytes) {
  for (; *bytes != 0; ++bytes) {
    const int32_t to = add_node();
    on_byte(from, static_cast<uint8_t>(*bytes), static_cast<uint8_t>(*bytes), to);
    from = to;
  }
  return from;
}

bool Automaton::finish(int32_t root) {
  root_ = root;
  refuse_endless_calls();
  find_needs();
  if (node(start(root)).need == AutomatonNode::kNever) return false;
  remove_dead_ends();
  mark_simple();
  index_edges();
  return true;
}

std::vector<std::vector<Automaton::Use>> Automaton::uses(bool with_bytes) const {
  std::vector<std::vector<Use>> uses(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const auto from = static_cast<int32_t>(i);
    if (with_bytes) {
      for (const ByteEdge& edge : nodes_[i].bytes) {
        uses[static_cast<size_t>(edge.to)].push_back({from, CallEdge::kNothing, edge.to});
      }
    }
    for (const CallEdge& edge : nodes_[i].calls) {
      uses[static_cast<size_t>(edge.to)].push_back({from, edge.rule, edge.to});
      if (edge.rule == CallEdge::kNothing) continue;
      uses[static_cast<size_t>(start(edge.rule))].push_back({from, edge.rule, edge.to});
    }
  }
  return uses;
}

// Knuth's generalisation of Dijkstra's algorithm ("A generalization of Dijkstra's algorithm", 1977): a call
// needs the larger of one more than its rule and what follows it, so needs are found in rising order.
void Automaton::find_needs() {
  constexpr int32_t kNever = AutomatonNode::kNever;
  const auto waiting = uses(true);
  using Found = std::pair<int32_t, int32_t>;  // need, node
  std::priority_queue<Found, std::vector<Found>, std::greater<>> queue;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    nodes_[i].need = kNever;
    if (nodes_[i].final) queue.emplace(0, static_cast<int32_t>(i));
  }
  while (!queue.empty()) {
    const auto [need, index] = queue.top();
    queue.pop();
    if (node(index).need != kNever) continue;
    node(index).need = need;
    for (const Use& use : waiting[static_cast<size_t>(index)]) {
      int32_t of_use = node(use.to).need;
      if (node(use.from).need != kNever || of_use == kNever) continue;
      if (use.rule != CallEdge::kNothing) {
        const int32_t of_rule = node(start(use.rule)).need;
        if (of_rule == kNever) continue;
        of_use = std::max(of_use, of_rule + 1);
      }
      queue.emplace(of_use, use.from);
    }
  }
}

// Nodes from which a rule can be left without a byte.
std::vector<bool> Automaton::blank_nodes() const {
  const auto waiting = uses(false);
  std::vector<bool> blank(nodes_.size());
  std::vector<int32_t> found;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].final) found.push_back(static_cast<int32_t>(i));
  }
  while (!found.empty()) {
    const auto index = static_cast<size_t>(found.back());
    found.pop_back();
    if (blank[index]) continue;
    blank[index] = true;
    for (const Use& use : waiting[index]) {
      if (!blank[static_cast<size_t>(use.to)]) continue;
      if (use.rule == CallEdge::kNothing || blank[static_cast<size_t>(start(use.rule))])
        found.push_back(use.from);
    }
  }
  return blank;
}

void Automaton::remove_dead_ends() {
  const auto dead = [&](int32_t index) { return node(index).need == AutomatonNode::kNever; };
  for (AutomatonNode& one : nodes_) {
    std::erase_if(one.bytes, [&](const ByteEdge& edge) { return dead(edge.to); });
    std::erase_if(one.calls, [&](const CallEdge& edge) {
      return dead(edge.to) || (edge.rule != CallEdge::kNothing && dead(start(edge.rule)));
    });
  }
}

// The steps that read nothing must have no cycle.
void Automaton::refuse_endless_calls() const {
  const std::vector<bool> blank = blank_nodes();
  std::vector<std::vector<int32_t>> steps(nodes_.size());
  std::vector<int32_t> waits(nodes_.size());
  const auto step = [&](size_t from, int32_t to) {
    steps[from].push_back(to);
    ++waits[static_cast<size_t>(to)];
  };
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (const CallEdge& edge : nodes_[i].calls) {
      if (edge.rule != CallEdge::kNothing) step(i, start(edge.rule));
      if (edge.rule == CallEdge::kNothing || blank[static_cast<size_t>(start(edge.rule))]) step(i, edge.to);
    }
  }
  std::vector<int32_t> free;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (waits[i] == 0) free.push_back(static_cast<int32_t>(i));
  }
  size_t ordered = 0;
  for (; !free.empty(); ++ordered) {
    const int32_t index = free.back();
    free.pop_back();
    for (const int32_t to : steps[static_cast<size_t>(index)]) {
      if (--waits[static_cast<size_t>(to)] == 0) free.push_back(to);
    }
  }
  if (ordered == nodes_.size()) return;
  throw Error(ErrorKind::invalid_argument,
              "a $ref of the schema leads back to itself before any value begins",
              "let it pass through an object or a list");
}

void Automaton::mark_simple() {
  std::vector<std::vector<int32_t>> before(nodes_.size());
  std::vector<int32_t> complex;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    AutomatonNode& one = nodes_[i];
    std::sort(one.bytes.begin(), one.bytes.end(),
              [](const ByteEdge& a, const ByteEdge& b) { return a.low < b.low; });
    one.simple = one.calls.empty();
    for (size_t e = 0; e < one.bytes.size(); ++e) {
      if (e > 0 && one.bytes[e].low <= one.bytes[e - 1].high) one.simple = false;
      before[static_cast<size_t>(one.bytes[e].to)].push_back(static_cast<int32_t>(i));
    }
    if (!one.simple) complex.push_back(static_cast<int32_t>(i));
  }
  while (!complex.empty()) {
    const int32_t index = complex.back();
    complex.pop_back();
    for (const int32_t from : before[static_cast<size_t>(index)]) {
      if (node(from).simple) complex.push_back(from);
      node(from).simple = false;
    }
  }
}

void Automaton::index_edges() {
  constexpr size_t kFew = 4;
  for (AutomatonNode& one : nodes_) {
    if (!one.simple || one.bytes.size() <= kFew || one.bytes.size() >= AutomatonNode::kNoEdge) continue;
    one.edge_of.assign(256, AutomatonNode::kNoEdge);
    for (size_t e = 0; e < one.bytes.size(); ++e) {
      std::fill(one.edge_of.begin() + one.bytes[e].low, one.edge_of.begin() + one.bytes[e].high + 1,
                static_cast<uint8_t>(e));
    }
    indexed_bytes_ += std::ssize(one.edge_of);
  }
}

int64_t Automaton::bytes() const {
  return static_cast<int64_t>(nodes_.size() * sizeof(AutomatonNode) + edges_ * sizeof(CallEdge)) +
         indexed_bytes_;
}

}  // namespace fovea
