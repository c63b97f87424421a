// How long a planned request will take on a machine: the amounts of bench/amounts.h over the measured limits,
// times the shares of them that docs/measurements/speed.md measured.
#pragma once

#include "advise/machine.h"
#include "plan/plan.h"

namespace fovea {

struct Estimate {
  double vision_s = 0, prefill_s = 0;
  double token_s = 0;  // each token after the first, in the middle of the answer
  double first_token_s() const { return vision_s + prefill_s; }
  double tokens_per_s() const { return 1 / token_s; }
  double answer_s(int64_t tokens) const {
    return first_token_s() + static_cast<double>(tokens > 0 ? tokens - 1 : 0) * token_s;
  }
};

// `plan` is that of `request` with `precision`, or of one that shows less of its pictures: the vision tower's
// time is then taken in proportion to their tokens. Mapped weights are taken to be in the page cache, images
// to be decoded; of streamed weights all are read once before the first token.
Estimate estimate(const ModelConfig& config, const Precision& precision, const PlanRequest& request,
                  const Plan& plan, int64_t weight_bytes, const Machine& machine);

}  // namespace fovea
