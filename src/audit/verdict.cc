#include "audit/verdict.h"

#include <cmath>
#include <map>

namespace fovea {

namespace {

// exp(-0.05): the reference's tokens keep 95 % of their likelihood in the mean.
constexpr double kSignificant = 0.05, kSafeKl = 0.05;

// P(X >= lost) for X ~ Binomial(lost + gained, 1/2): how likely so many losses are if losing and gaining were
// equal.
double sign_test(int64_t lost, int64_t gained) {
  const int64_t n = lost + gained;
  double sum = 0;
  for (int64_t k = lost; k <= n; ++k) {
    sum += std::exp(std::lgamma(static_cast<double>(n + 1)) - std::lgamma(static_cast<double>(k + 1)) -
                    std::lgamma(static_cast<double>(n - k + 1)) - static_cast<double>(n) * std::log(2.0));
  }
  return sum;
}

}  // namespace

Exchange exchange_of(const Compared& reference, const Compared& other) {
  std::map<std::string, const ItemResult*> by_id;
  for (const AnsweredItem& a : reference.answered) by_id[a.item->id] = a.result;
  Exchange e;
  for (const AnsweredItem& a : other.answered) {
    const auto found = by_id.find(a.item->id);
    if (found == by_id.end()) continue;
    ++e.count;
    e.lost += found->second->correct && !a.result->correct;
    e.gained += !found->second->correct && a.result->correct;
    e.stopped += !a.result->problem.empty() && found->second->problem.empty();
  }
  return e;
}

Verdict verdict_of(const Compared& reference, const Compared& configuration) {
  const Exchange e = exchange_of(reference, configuration);
  if (e.stopped > 0 || (e.lost > e.gained && sign_test(e.lost, e.gained) < kSignificant))
    return Verdict::unsafe;
  const bool same_answers = (e.lost - e.gained) * 50 <= e.count;
  return same_answers && score_of(configuration.answered).kl <= kSafeKl ? Verdict::safe : Verdict::undecided;
}

bool loses(const Compared& reference, const Compared& configuration) {
  return verdict_of(reference, configuration) == Verdict::unsafe ||
         score_of(configuration.answered).kl > kSafeKl;
}

}  // namespace fovea
