// Whether a configuration is safe, judged by its answers against the reference's.
#pragma once

#include <vector>

#include "audit/memory_plan.h"
#include "audit/summary.h"

namespace fovea {

struct Compared {
  const Configuration* configuration = nullptr;
  std::vector<AnsweredItem> answered;
  const Precision* precision = nullptr;
  MemoryPlan memory;
};

enum class Verdict { safe, unsafe, undecided };

// Against the reference, on the questions both were asked. Unsafe: it loses significantly more answers than
// it gains (sign test, one-sided, 5 %), or it stopped. Safe: it loses at most one answer in fifty more than
// it gains. Else there are too few questions to tell.
Verdict verdict_of(const Compared& reference, const Compared& configuration);

// What two configurations did with the same questions.
struct Exchange {
  int64_t count = 0, lost = 0, gained = 0, stopped = 0;
};
Exchange exchange_of(const Compared& reference, const Compared& other);

// Whether the loss is more than noise: significant in answers, or more than 0.05 nats of KL.
bool loses(const Compared& reference, const Compared& configuration);

}  // namespace fovea
