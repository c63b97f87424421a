#include "runtime/logit_blocks.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace fovea {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// to[i] = the larger of a[i] and b[i]; a loop of known length, which compilers turn into vector instructions.
template <size_t kCount>
void larger_of(const float* a, const float* b, float* to) {
  for (size_t i = 0; i < kCount; ++i) to[i] = a[i] > b[i] ? a[i] : b[i];
}

// A maximum has the same value in any order.
float largest_in(const float* x) {
  static_assert(LogitBlocks::kIds == 64);
  std::array<float, 32> larger;
  larger_of<32>(x, x + 32, larger.data());
  larger_of<16>(larger.data(), larger.data() + 16, larger.data());
  larger_of<8>(larger.data(), larger.data() + 8, larger.data());
  larger_of<4>(larger.data(), larger.data() + 4, larger.data());
  return std::max({larger[0], larger[1], larger[2], larger[3]});
}

template <class Change>
void for_each_id(uint64_t word, const Change& change) {
  for (; word != 0; word &= word - 1) change(static_cast<size_t>(std::countr_zero(word)));
}

constexpr LogitBlocks::Block block_of(float logit) {
  LogitBlocks::Block block{};
  for (float& one : block) one = logit;
  return block;
}
constexpr LogitBlocks::Block kNone = block_of(kNever);

uint64_t word_of(IdSet set, int64_t block) { return set.empty() ? 0 : set[static_cast<size_t>(block)]; }

}  // namespace

void LogitBlocks::read(std::span<const float> row, const LogitChanges& changes) {
  row_ = row;
  changes_ = changes;
  largest_.resize((row.size() + kIds - 1) / kIds);
  Block changed;
  for (int64_t b = 0; b < blocks(); ++b) largest_[static_cast<size_t>(b)] = largest_in(block(b, changed));
}

const float* LogitBlocks::block(int64_t block, Block& changed) const {
  const auto begin = row_.begin() + block * kIds;
  const uint64_t penalised = word_of(changes_.penalised, block),
                 forbidden = word_of(changes_.forbidden, block);
  const int64_t count = std::min(kIds, ids() - block * kIds);
  if (count == kIds && penalised == 0 && forbidden == 0) return &*begin;
  if (forbidden == ~uint64_t{0}) return kNone.data();
  std::copy_n(begin, count, changed.begin());
  std::fill(changed.begin() + count, changed.end(), kNever);
  for_each_id(penalised, [&](size_t i) {
    changed[i] = changed[i] > 0 ? changed[i] / changes_.penalty : changed[i] * changes_.penalty;
  });
  for_each_id(forbidden, [&](size_t i) { changed[i] = kNever; });
  return changed.data();
}

RankedLogit LogitBlocks::largest() const {
  const auto best = std::max_element(largest_.begin(), largest_.end());
  const int64_t b = best - largest_.begin();
  Block changed;
  const float* logits = block(b, changed);
  return {*best, static_cast<int32_t>(b * kIds + (std::find(logits, logits + kIds, *best) - logits))};
}

// Blocks with a value at or above the count-th largest of the blocks' largest ones have that many between
// them.
float LogitBlocks::reached_by(int64_t count) {
  if (count > blocks()) return kNever;
  descending_ = largest_;
  const auto last = descending_.begin() + (count - 1);
  std::nth_element(descending_.begin(), last, descending_.end(), std::greater<>());
  return *last;
}

void LogitBlocks::collect(float least, int64_t most, std::vector<RankedLogit>& to) const {
  Block changed;
  for (int64_t b = 0; b < blocks() && std::ssize(to) <= most; ++b) {
    if (largest_of(b) < least) continue;
    const float* logits = block(b, changed);
    const int64_t count = std::min(kIds, ids() - b * kIds);
    for (int64_t i = 0; i < count; ++i) {
      if (logits[i] >= least) to.push_back({logits[i], static_cast<int32_t>(b * kIds + i)});
    }
  }
}

// exp(y) = 2^n exp(r) with n = round(y / ln 2), |r| <= ln 2 / 2: the series up to r^10 / 10! leaves
// r^11 / 11! < 2.2e-13, and the roundings of n ln 2 leave 700 * 2^-53 < 8e-14.
void exponentials_of(const float* logits, double shift, double temperature,
                     std::array<double, LogitBlocks::kIds>& exponentials) {
  // Added to a small number it rounds to an integer, which then stands in the lowest bits of the sum.
  constexpr double kRounder = 0x1.8p52, kLn2 = 0x1.62e42fefa39efp-1, kPerLn2 = 0x1.71547652b82fep0;
  // Finite also where the reciprocal is not, for 0 times it must be 0.
  const double factor = std::min(1 / temperature, std::numeric_limits<double>::max());
  for (size_t i = 0; i < LogitBlocks::kIds; ++i) {
    const double y = (static_cast<double>(logits[i]) - shift) * factor;
    exponentials[i] = y > -700 ? y : -700;
  }
  // A loop of its own, or gcc makes the constant a branch and vectorises neither.
  for (double& exponential : exponentials) {
    const double y = exponential;
    const double rounded = y * kPerLn2 + kRounder;
    const double r = y - (rounded - kRounder) * kLn2;
    double series = r * (1. / 3628800) + 1. / 362880;
    series = series * r + 1. / 40320;
    series = series * r + 1. / 5040;
    series = series * r + 1. / 720;
    series = series * r + 1. / 120;
    series = series * r + 1. / 24;
    series = series * r + 1. / 6;
    series = series * r + 1. / 2;
    series = (series * r + 1) * r + 1;
    exponential =
        std::bit_cast<double>(std::bit_cast<uint64_t>(series) + (std::bit_cast<uint64_t>(rounded) << 52));
  }
}

}  // namespace fovea
