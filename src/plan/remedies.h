// What to change when a request does not fit: each single change that is enough, and if none is, all of them
// together.
#pragma once

#include <functional>

#include "plan/plan.h"
#include "policy/precision_policy.h"

namespace fovea {

// A request together with what decides its precision.
struct PlanSetup {
  PrecisionPolicy policy;
  PolicyTarget target;
  PlanRequest request;
};

struct Remedy {
  std::string change;    // as flags: "--attn flash_attention_2"
  std::string accuracy;  // what it costs
  std::string time;
  Plan plan;  // with the change
};

// How much a plan needs of the limit that it is held against.
using Need = std::function<int64_t(const Plan&)>;

// Changes with which need(plan) <= limit, cheapest first: those that change no result, then those that round
// more, then those that show the model less; within each the quicker first. Of a number (tokens, rows) the
// smallest change that is enough. `setup` itself is unchanged on return. Empty when nothing helps.
std::vector<Remedy> find_remedies(const Checkpoint& checkpoint, PlanSetup& setup, int64_t limit,
                                  const Need& need);

// The fewest processes, more than the request has, among which the weights have room in memory when each
// stores its part (ZeRO stage 3), each with a limit of its own: on hosts of their own, that is. The plan is
// that of the rank that answers; the others need less. Nothing when none of up to 64 is enough, or when the
// policy or the checkpoint quantizes, which no rank can share.
std::optional<Remedy> find_ranks(const Checkpoint& checkpoint, PlanSetup& setup, int64_t limit,
                                 const Need& need);

}  // namespace fovea
