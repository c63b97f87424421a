// What the answers of an audit depend on besides a policy and a question's id: results under one fingerprint
// may stand in one table.
#pragma once

#include <nlohmann/json.hpp>

#include "audit/audit.h"

namespace fovea {

// One entry for each thing that can be told apart in words. Not in it, because no answer depends on it:
// threads, chunks, budgets of memory, where weights, keys and values lie, which rank computes what.
nlohmann::json fingerprint_of(const Engine& engine, const Suite& suite, const AuditOptions& options);

}  // namespace fovea
