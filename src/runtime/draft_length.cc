#include "runtime/draft_length.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace fovea {

namespace {

constexpr double kMemory = 1. / 16;  // weight of the newest observation
constexpr int64_t kPatience = 16, kPatienceMost = 256;
// Below this little is to be won, and a probe may cost a whole token's time.
constexpr double kWorthProbing = .5;

}  // namespace

// A shorter time is believed at once, a longer one slowly: what else runs on the machine only adds.
void DraftLength::timed(int64_t rows, double seconds) {
  const auto width = static_cast<size_t>(std::countr_zero(static_cast<uint64_t>(rows)));
  FOVEA_CHECK(width < times_.size() && std::has_single_bit(static_cast<uint64_t>(rows)));
  double& time = times_[width];
  time = time == 0 || seconds < time ? seconds : time + (seconds - time) * kMemory;
}

void DraftLength::announced(int64_t match, bool came) {
  double& rate = rates_[static_cast<size_t>(match)];
  rate += ((came ? 1. : 0.) - rate) * kMemory;
}

double DraftLength::rate(int64_t match) const {
  return rates_[static_cast<size_t>(std::min(match, PromptLookup::kLongest))];
}

// A width never made: linear in the rows from the two before it; two rows at first as cheap as one, so that
// the first match tries it.
double DraftLength::seconds(size_t width) const {
  if (times_[width] > 0) return times_[width];
  if (width == 1) return times_[0];
  const double last = seconds(width - 1), step = std::max(0., last - seconds(width - 2));
  return last + 2 * step;
}

// A token that came makes the match one longer.
void DraftLength::chances(int64_t match, int64_t count, std::vector<double>& to) const {
  to.clear();
  double reached = 1;
  for (int64_t i = 0; i < count; ++i) to.push_back(reached *= rate(match + i));
}

// The first token is certain; the next ones come as long as every announced one did, and a token that came
// makes the match one longer.
double DraftLength::tokens(int64_t match, int64_t length) const {
  double reached = 1, sum = 1;
  for (int64_t i = 0; i < length; ++i) sum += reached *= rate(match + i);
  return sum;
}

int64_t DraftLength::choose(int64_t match, int64_t most) {
  if (times_[0] == 0 || most < 1) return 0;
  int64_t best = 0;
  double best_speed = 1 / times_[0];
  for (size_t width = 1; width < times_.size() && length_of(width) <= most; ++width) {
    const double speed = tokens(match, length_of(width)) / seconds(width);
    if (speed <= best_speed) continue;
    best_speed = speed;
    best = length_of(width);
  }
  if (best == 0) return probe(match, most);
  declined_ = 0;
  patience_ = kPatience;
  return best;
}

// The narrowest width never made, if it would pay at the price of the one before it, or else two rows again.
int64_t DraftLength::probe(int64_t match, int64_t most) {
  if (rate(match) < kWorthProbing || ++declined_ < patience_) return 0;
  declined_ = 0;
  patience_ = std::min(2 * patience_, kPatienceMost);
  const auto width = static_cast<size_t>(std::find(times_.begin(), times_.end(), 0.) - times_.begin());
  if (width == times_.size() || length_of(width) > most) return 1;
  const bool may_pay = tokens(match, length_of(width)) * times_[0] > times_[width - 1];
  return may_pay ? length_of(width) : 1;
}

}  // namespace fovea
