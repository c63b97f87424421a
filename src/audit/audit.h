// The audit: questions under several configurations, what they cost, what is to blame, what to use instead.
// docs/guide/audit.md describes what it returns.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "audit/attribution.h"
#include "audit/configuration.h"
#include "audit/evaluator.h"
#include "suite/reader.h"

namespace fovea {

struct AuditOptions {
  std::vector<Configuration> compare;
  std::optional<Configuration> reference;  // nothing: only judge answers
  int64_t limit = 0;                       // the first N usable questions; 0: all
  bool attribute = false, search = false, search_storage = false;
  std::string attribute_configuration;  // nothing: the one that loses most
  AttributionOptions attribution;
  double target = 0.95;
  EvaluationOptions evaluation;
  MediaLimits media;
  // All configurations are asked again with each of these as the total of image tokens; ascending.
  std::vector<int64_t> image_budgets;
  bool keep_state = false;           // also when complete
  EngineCheck check;                 // refuses questions that an engine has no memory for; they are skipped
  std::filesystem::path state_file;  // empty: an interrupted audit is lost
  bool resume = false;               // state_file must be there and belong to this audit
  Sharing sharing;                   // with other ranks, which call run_audit with the same suite and options
};

struct AuditOutcome {
  nlohmann::ordered_json json;
  bool complete = true;  // false: cancelled; json holds what was done, the state file the rest
};

// Throws Error for options that do not fit the model; a question or a configuration that fails is part of the
// result. The state file is removed when the audit is complete. Of several ranks only the first reads, writes
// and removes it; the outcome is the same on all.
AuditOutcome run_audit(const Engine& engine, const Suite& suite, const AuditOptions& options,
                       const AuditFollower& follower);

}  // namespace fovea
