// Which node of a failing policy is to blame: each is raised to fp32 alone, and lowered alone in a policy
// that is fp32 otherwise. Groups too, because two roundings in a row hide each other: removing one of them
// cures nothing.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "audit/evaluator.h"
#include "audit/summary.h"

namespace fovea {

struct AttributionOptions {
  int64_t items = 24;  // questions for the leading entries; a quarter of them for the others
};

// One node, or several that are raised together.
struct AttributionEntry {
  std::vector<NodeAddress> nodes;
  std::string name() const;  // "text.scores+text.scaled"
};

struct Attribution {
  std::string configuration, guilty, verdict;  // guilty is empty when no entry explains the loss
  std::vector<NodeAddress> guilty_nodes;
  int64_t items = 0;
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  bool complete = true;
};

// The nodes that the policy stores in 16 bits, singly and in the groups that belong together.
std::vector<AttributionEntry> attribution_entries(const Precision& precision);
// The policy with these nodes in fp32; and with all its 16-bit nodes in fp32 but these.
PrecisionPolicy raised(const PrecisionPolicy& policy, const AttributionEntry& entry);
PrecisionPolicy lowered(const PrecisionPolicy& policy, const Precision& precision,
                        const AttributionEntry& entry);

// Questions that tell the most: two thirds that the reference answers right and the configuration wrong, and
// others. Where nothing is lost, those of the largest KL.
std::vector<const SuiteItem*> telling_items(const ResultStore& store, const Configuration& reference,
                                            const Configuration& failing,
                                            std::span<const SuiteItem* const> items, int64_t count);

// Requires that reference and failing are evaluated on `items`.
Attribution attribute(Evaluator& evaluator, const Configuration& reference, const Configuration& failing,
                      std::span<const SuiteItem* const> items, const AttributionOptions& options);

}  // namespace fovea
