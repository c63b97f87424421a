// The cheapest policy that reaches a target accuracy.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "audit/evaluator.h"
#include "audit/memory_plan.h"
#include "audit/summary.h"

namespace fovea {

struct SearchCandidate {
  Configuration configuration;
  MemoryPlan memory;
  enum class Status { reached, missed, skipped } status = Status::skipped;
  Score score;  // of what was asked; a candidate is given up as soon as it cannot reach the target any more
  std::string why;
  bool eager = false;
};

struct SearchResult {
  double target = 0;
  std::vector<SearchCandidate> candidates;  // cheapest first
  bool complete = true;
  // The cheapest that reached the target; and among those that keep the scores, as some programs must.
  const SearchCandidate* cheapest() const;
  const SearchCandidate* cheapest_eager() const;
};

// Candidates around an eager policy: the fused implementations in its dtype, the policy itself, its cures,
// scores in fp32 layer by layer (the most endangered first) and altogether, and the known cures by name.
// Those that this program or this model cannot do are there too, as skipped. `layers` of the base tell which
// layers are at risk.
std::vector<SearchCandidate> search_candidates(Evaluator& evaluator, const Configuration& base,
                                               const std::vector<LayerSums>& layers,
                                               const PromptShape& shape);

// Weights and keys and values in 16, 8 and 4 bits: all of them, or only those of the inner layers; the fewest
// bytes for the longest prompt of `shape` first.
std::vector<SearchCandidate> storage_candidates(Evaluator& evaluator, const PromptShape& shape);

SearchResult search(Evaluator& evaluator, const Configuration& reference,
                    std::vector<SearchCandidate> candidates, std::span<const SuiteItem* const> items,
                    double target);

nlohmann::ordered_json candidate_json(const SearchCandidate& candidate, double target);

}  // namespace fovea
