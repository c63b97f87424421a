// Whether a configuration is safe, judged by its answers against the reference's.
#pragma once

#include <cstdint>
#include <optional>
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

// Against the reference, on the questions both were asked. Unsafe: it stopped where the reference did not, or
// it loses significantly more answers than it gains (sign test, one-sided, 5 %). Safe: the questions show
// that it loses less than `tolerated` of the answers that the reference has right (few_losses_chance at most
// 5 %), and its mean KL is at most 0.05. Else undecided.
Verdict verdict_of(const Compared& reference, const Compared& configuration, double tolerated);

// Never more than one answer in twenty, however low the target.
double tolerated_loss(double target);

// How likely it is to see at most `lost` of `right` answers lost when each is lost with probability `loss`:
// P(X <= lost), X ~ Binomial(right, loss). Where this is at most 5 %, so few losses speak against a loss that
// large (the one-sided bound of Clopper and Pearson, 1934).
double few_losses_chance(int64_t lost, int64_t right, double loss);
// The fewest right answers of the reference among which `lost` lost ones show that less than `tolerated` are
// lost; nothing when no number does (tolerated is 0).
std::optional<int64_t> right_answers_needed(int64_t lost, double tolerated);

// What two configurations did with the same questions. right: answers of the reference, which alone can be
// lost.
struct Exchange {
  int64_t count = 0, right = 0, lost = 0, gained = 0, stopped = 0;
};
Exchange exchange_of(const Compared& reference, const Compared& other);

// Whether the loss is more than noise: significant in answers, or more than 0.05 nats of KL.
bool loses(const Compared& reference, const Compared& configuration);

}  // namespace fovea
