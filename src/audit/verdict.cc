#include "audit/verdict.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace fovea {

namespace {

// exp(-0.05): the reference's tokens keep 95 % of their likelihood in the mean.
constexpr double kSignificant = 0.05, kSafeKl = 0.05;

// log P(X = k), X ~ Binomial(n, p), 0 < p < 1.
double log_binomial(int64_t k, int64_t n, double p) {
  const auto successes = static_cast<double>(k), failures = static_cast<double>(n - k);
  return std::lgamma(static_cast<double>(n + 1)) - std::lgamma(successes + 1) - std::lgamma(failures + 1) +
         successes * std::log(p) + failures * std::log1p(-p);
}

// P(X >= lost) for X ~ Binomial(lost + gained, 1/2): how likely so many losses are if losing and gaining were
// equal.
double sign_test(int64_t lost, int64_t gained) {
  double sum = 0;
  for (int64_t k = lost; k <= lost + gained; ++k) sum += std::exp(log_binomial(k, lost + gained, 0.5));
  return sum;
}

bool is_unsafe(const Exchange& e) {
  return e.stopped > 0 || (e.lost > e.gained && sign_test(e.lost, e.gained) < kSignificant);
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
    e.right += found->second->correct;
    e.lost += found->second->correct && !a.result->correct;
    e.gained += !found->second->correct && a.result->correct;
    e.stopped += !a.result->problem.empty() && found->second->problem.empty();
  }
  return e;
}

double tolerated_loss(double target) { return std::min(1 - target, 0.05); }

double few_losses_chance(int64_t lost, int64_t right, double loss) {
  if (lost >= right || loss <= 0) return 1;
  double sum = 0;
  for (int64_t k = 0; k <= lost; ++k) sum += std::exp(log_binomial(k, right, loss));
  return sum;
}

std::optional<int64_t> right_answers_needed(int64_t lost, double tolerated) {
  if (tolerated <= 0) return std::nullopt;
  int64_t few = lost, enough = lost + 1;  // the chance falls with the number of answers
  while (few_losses_chance(lost, enough, tolerated) > kSignificant) {
    few = enough;
    enough *= 2;
  }
  while (enough - few > 1) {
    const int64_t middle = few + (enough - few) / 2;
    (few_losses_chance(lost, middle, tolerated) > kSignificant ? few : enough) = middle;
  }
  return enough;
}

Verdict verdict_of(const Compared& reference, const Compared& configuration, double tolerated) {
  const Exchange e = exchange_of(reference, configuration);
  if (is_unsafe(e)) return Verdict::unsafe;
  const bool shown = few_losses_chance(e.lost, e.right, tolerated) <= kSignificant;
  return shown && score_of(configuration.answered).kl <= kSafeKl ? Verdict::safe : Verdict::undecided;
}

bool loses(const Compared& reference, const Compared& configuration) {
  return is_unsafe(exchange_of(reference, configuration)) || score_of(configuration.answered).kl > kSafeKl;
}

}  // namespace fovea
