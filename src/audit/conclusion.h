// The result of an audit in words.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "audit/attribution.h"
#include "audit/search.h"
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

// Sentences: what is safe, what is not, why, and what to use. `reference` may be null, as may the last two.
std::vector<std::string> conclude(const Compared* reference, std::span<const Compared> compared,
                                  const Attribution* attribution, const SearchResult* search);

}  // namespace fovea
