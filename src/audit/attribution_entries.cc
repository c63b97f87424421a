// Which nodes are tried, and the policies that try them.
#include <algorithm>
#include <map>

#include "audit/attribution.h"
#include "base/error.h"

namespace fovea {

namespace {

// Nodes that act as one: two roundings of the same value in a row, or the parts of one operation.
const std::vector<std::vector<std::string>> kGroups = {
    {"scores", "scaled"}, {"q", "k"}, {"rope_tables", "rope_steps"}, {"mlp", "down_proj"}};
// Set together with another node of the policy.
bool follows_another(std::string_view name) { return name == "k_cache" || name == "v_cache"; }

bool is_low(const LayeredPrecision& tower, const Node& node) {
  return std::any_of(tower.layers.begin(), tower.layers.end(), [&](const TowerPrecision& layer) {
    const std::string value = value_of(layer, node);
    return value == "bf16" || value == "fp16";
  });
}

std::vector<std::string> low_nodes(const LayeredPrecision& tower) {
  std::vector<std::string> names;
  for (const Node& node : nodes()) {
    if (!follows_another(node.name) && is_low(tower, node)) names.emplace_back(node.name);
  }
  return names;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void add_groups(std::vector<AttributionEntry>& entries, const std::string& tower,
                const std::vector<std::string>& low) {
  for (const auto& group : kGroups) {
    AttributionEntry entry;
    for (const std::string& name : group) {
      if (contains(low, name)) entry.nodes.push_back({tower, name});
    }
    if (entry.nodes.size() > 1) entries.push_back(entry);
  }
}

bool is_low(DType type) { return type == DType::bf16 || type == DType::f16; }

std::vector<NodeAddress> all_low_nodes(const Precision& precision) {
  std::vector<NodeAddress> all;
  for (const std::string& name : low_nodes(precision.text)) all.push_back({"text", name});
  for (const std::string& name : low_nodes(precision.vision)) all.push_back({"vision", name});
  if (is_low(precision.logits)) all.push_back({"", "logits"});
  return all;
}

}  // namespace

std::string AttributionEntry::name() const {
  std::string name;
  for (const NodeAddress& node : nodes) {
    if (!name.empty()) name += '+';
    name += node.text();
  }
  return name;
}

// The text decoder node by node; of the vision tower its scores and all of it: a run of the vision tower
// costs more than all the text, and what is not in its scores is refined by a configuration of one's own.
std::vector<AttributionEntry> attribution_entries(const Precision& precision) {
  std::vector<AttributionEntry> entries;
  const auto text = low_nodes(precision.text), vision = low_nodes(precision.vision);
  add_groups(entries, "text", text);
  for (const std::string& name : text) entries.push_back({{{"text", name}}});
  if (is_low(precision.logits)) entries.push_back({{{"", "logits"}}});
  if (contains(vision, "scores") && contains(vision, "scaled")) {
    entries.push_back({{{"vision", "scores"}, {"vision", "scaled"}}});
  }
  if (vision.size() > 2) {
    AttributionEntry all;
    for (const std::string& name : vision) all.nodes.push_back({"vision", name});
    entries.push_back(all);
  }
  return entries;
}

PrecisionPolicy raised(const PrecisionPolicy& policy, const AttributionEntry& entry) {
  PrecisionPolicy result = policy;
  for (const NodeAddress& node : entry.nodes) result = with_node(result, node, "fp32");
  return result;
}

PrecisionPolicy lowered(const PrecisionPolicy& policy, const Precision& precision,
                        const AttributionEntry& entry) {
  PrecisionPolicy result = policy;
  for (const NodeAddress& node : all_low_nodes(precision)) {
    const bool kept = std::find(entry.nodes.begin(), entry.nodes.end(), node) != entry.nodes.end();
    if (!kept) result = with_node(result, node, "fp32");
  }
  return result;
}

std::vector<const SuiteItem*> telling_items(const ResultStore& store, const Configuration& reference,
                                            const Configuration& failing,
                                            std::span<const SuiteItem* const> items, int64_t count) {
  struct Candidate {
    const SuiteItem* item;
    bool lost;
    double kl;
  };
  std::vector<Candidate> candidates;
  for (const SuiteItem* item : items) {
    const ItemResult *a = store.find(reference.key(), item->id), *b = store.find(failing.key(), item->id);
    if (a == nullptr || b == nullptr || !a->problem.empty()) continue;
    candidates.push_back({item, !b->problem.empty() || (a->correct && !b->correct), mean(b->kl)});
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return a.lost != b.lost ? a.lost : a.kl > b.kl;
  });
  const auto lost = std::count_if(candidates.begin(), candidates.end(), [](const auto& c) { return c.lost; });
  const auto wanted = std::min<int64_t>(count, static_cast<int64_t>(candidates.size()));
  const int64_t others =
      std::max<int64_t>(wanted - lost, std::min<int64_t>(wanted / 3, std::ssize(candidates) - lost));
  std::vector<const SuiteItem*> chosen;
  for (int64_t i = 0; i < wanted - others; ++i) chosen.push_back(candidates[static_cast<size_t>(i)].item);
  for (int64_t i = 0; i < others; ++i) chosen.push_back(candidates[static_cast<size_t>(lost + i)].item);
  return chosen;
}

}  // namespace fovea
