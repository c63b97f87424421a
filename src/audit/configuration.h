// What an audit compares: a precision policy under a name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/precision_policy.h"
#include "runtime/engine.h"

namespace fovea {

struct Configuration {
  std::string name;  // as the user wrote it, or as a part of the audit calls it
  PrecisionPolicy policy;
  GuardMode guard = GuardMode::off;

  // The same computation under two names is done once.
  std::string key() const;
};

// "eager-bf16", or "eager-bf16:text.scores=fp32;text.layers.0.k=fp32": a preset, and settings of the policy's
// text form separated by semicolons; "guard=escalate" among them switches the guard on. Throws
// Error(invalid_argument) naming what is wrong and what would be right.
Configuration parse_configuration(std::string_view text);
// The same, separated by commas; the same name twice is refused.
std::vector<Configuration> parse_configurations(std::string_view list);

// The flags of `fovea run` that compute it.
std::string flags_of(const Configuration& configuration);

// The policy with `node` of a whole tower set to `value`, whatever it was for any layer. tower: "text",
// "vision", or
// "" for the logits.
struct NodeAddress {
  std::string tower, node;
  std::string text() const { return tower.empty() ? node : tower + "." + node; }
  friend bool operator==(const NodeAddress&, const NodeAddress&) = default;
};
PrecisionPolicy with_node(const PrecisionPolicy& policy, const NodeAddress& address, std::string_view value);

}  // namespace fovea
