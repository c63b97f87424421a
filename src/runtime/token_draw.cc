#include "runtime/token_draw.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

namespace fovea {

namespace {

// So many temperatures below the largest logit a mass is less than exp(-40) < 2^-57. A sum that begins with
// the largest id's mass, 1, does not change by it, and no id behind it in the order is kept.
constexpr double kReach = 40;
// So many ids are sorted at once rather than looked at more closely.
constexpr int64_t kFew = 2048;
constexpr int64_t kShelves = 2048;

}  // namespace

TokenDraw::TokenDraw(double temperature, int64_t top_k, double top_p, double min_p)
    : temperature_(temperature),
      top_k_(top_k),
      top_p_(top_p),
      min_p_(min_p),
      shelves_per_logit_(std::min(kShelves / (kReach * temperature), std::numeric_limits<double>::max())) {}

// Ids below it are not kept, nor does a sum that is asked for need them.
float TokenDraw::least_wanted(LogitBlocks& blocks, float reach) const {
  float least = reach;
  if (top_k_ > 0 && top_k_ < blocks.ids()) least = std::max(least, blocks.reached_by(top_k_));
  if (min_p_ == 0 || top_p_ < 1) return least;
  // The part of a thousandth is for the roundings of both sides.
  const auto lowest = static_cast<double>(std::numeric_limits<float>::lowest());
  const double floor = static_cast<double>(largest_) + temperature_ * (std::log(min_p_) - 0.001);
  return std::max(least, static_cast<float>(std::max(floor, lowest)));
}

int32_t TokenDraw::draw(LogitBlocks& blocks, double random) {
  const bool limited = top_k_ > 0 && top_k_ < blocks.ids();
  const int64_t most = limited || min_p_ > 0 ? blocks.ids() : kFew;
  sorted_.clear();
  sorted_.reserve(kFew + LogitBlocks::kIds);
  masses_.reserve(kFew + LogitBlocks::kIds);
  largest_ = blocks.largest().logit;
  const auto lowest = static_cast<double>(std::numeric_limits<float>::lowest());
  const auto reach =
      static_cast<float>(std::max(static_cast<double>(largest_) - kReach * temperature_, lowest));
  blocks.collect(least_wanted(blocks, reach), most, sorted_);
  if (std::ssize(sorted_) > most) {
    if (const std::optional<int32_t> id = draw_from_shelves(blocks, random)) return *id;
    sorted_.clear();
    blocks.collect(reach, blocks.ids(), sorted_);
  }
  if (limited && std::ssize(sorted_) > top_k_) {
    std::nth_element(sorted_.begin(), sorted_.begin() + top_k_, sorted_.end(), ranks_before);
    sorted_.resize(static_cast<size_t>(top_k_));
  }
  std::sort(sorted_.begin(), sorted_.end(), ranks_before);
  return draw_from_sorted(random);
}

// The definition, but for ids that change no sum.
int32_t TokenDraw::draw_from_sorted(double random) {
  masses_.clear();
  double total = 0;
  for (const RankedLogit& one : sorted_) {
    const double mass =
        std::exp((static_cast<double>(one.logit) - static_cast<double>(largest_)) / temperature_);
    if (mass < total * 0x1p-55) break;  // it changes no sum, nor do those that follow it
    total += mass;
    masses_.push_back(mass);
  }
  size_t kept = 0;
  double kept_mass = 0;
  while (kept < masses_.size() && (kept == 0 || (kept_mass < top_p_ * total && masses_[kept] >= min_p_))) {
    kept_mass += masses_[kept++];
  }
  double target = random * kept_mass;
  for (size_t i = 0; i < kept; ++i) {
    target -= masses_[i];
    if (target < 0) return sorted_[i].id;
  }
  return sorted_[kept - 1].id;
}

// The sums of the definition up to rounding: each has at most n terms, so it and its counterpart here are
// within n 2^-53 of the true sum, relatively, and the masses here within 2^-40 of theirs. At most five such
// differences add up (total, kept sum, goal, the sum at the place, counting down): with eight of each, what
// is beyond doubt here is so there.
std::optional<int32_t> TokenDraw::draw_from_shelves(const LogitBlocks& blocks, double random) {
  fill_shelves(blocks);
  double kept = std::accumulate(shelves_.begin(), shelves_.end(), 0.0);
  const double doubt = kept * (0x1p-37 + static_cast<double>(blocks.ids()) * 0x1p-50);
  if (top_p_ < 1) {
    const std::optional<Place> last = place_of(blocks, top_p_ * kept, doubt);
    if (!last) return std::nullopt;
    kept = last->sum;
  }
  const std::optional<Place> drawn = place_of(blocks, random * kept, doubt);
  if (!drawn) return std::nullopt;
  return drawn->id;
}

// Never falls as logits fall: each of its steps rounds in order.
int64_t TokenDraw::shelf_of(float logit) const {
  const double shelf = (static_cast<double>(largest_) - static_cast<double>(logit)) * shelves_per_logit_;
  // In this order min() makes NaN, which -inf gives at an enormous temperature, the last shelf.
  return static_cast<int64_t>(std::min(static_cast<double>(kShelves - 1), shelf));
}

void TokenDraw::fill_shelves(const LogitBlocks& blocks) {
  shelves_.assign(kShelves, 0);
  LogitBlocks::Block changed;
  std::array<double, LogitBlocks::kIds> masses;
  for (int64_t b = 0; b < blocks.blocks(); ++b) {
    const float* logits = blocks.block(b, changed);
    exponentials_of(logits, static_cast<double>(largest_), temperature_, masses);
    for (size_t i = 0; i < masses.size(); ++i) {
      shelves_[static_cast<size_t>(shelf_of(logits[i]))] += masses[i];
    }
  }
}

// Nothing where the goal lies within `doubt` of the sum at the place or before it.
std::optional<TokenDraw::Place> TokenDraw::place_of(const LogitBlocks& blocks, double goal, double doubt) {
  int64_t shelf = 0;
  double sum = 0;
  for (; shelf < kShelves - 1 && sum + shelves_[static_cast<size_t>(shelf)] < goal; ++shelf) {
    sum += shelves_[static_cast<size_t>(shelf)];
  }
  sorted_.clear();
  LogitBlocks::Block changed;
  for (int64_t b = 0; b < blocks.blocks(); ++b) {
    if (shelf_of(blocks.largest_of(b)) > shelf) continue;
    const float* logits = blocks.block(b, changed);
    const int64_t count = std::min(LogitBlocks::kIds, blocks.ids() - b * LogitBlocks::kIds);
    for (int64_t i = 0; i < count; ++i) {
      if (shelf_of(logits[i]) != shelf) continue;
      sorted_.push_back({logits[i], static_cast<int32_t>(b * LogitBlocks::kIds + i)});
    }
  }
  std::sort(sorted_.begin(), sorted_.end(), ranks_before);
  for (const RankedLogit& one : sorted_) {
    const double before = sum;
    sum += std::exp((static_cast<double>(one.logit) - static_cast<double>(largest_)) / temperature_);
    if (sum < goal) continue;
    const bool first = before == 0;  // it is kept and drawn whatever stands before it
    if (sum - goal <= doubt || (!first && goal - before <= doubt)) return std::nullopt;
    return Place{one.id, sum};
  }
  return std::nullopt;
}

}  // namespace fovea
