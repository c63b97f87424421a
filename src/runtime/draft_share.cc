#include "runtime/draft_share.h"

#include <algorithm>

namespace fovea {

namespace {

constexpr double kMemory = 1. / 8;  // weight of the newest observation

}  // namespace

// A shorter time is believed at once, a longer one slowly: what else runs on the machine only adds.
void StepTimes::timed(int64_t rows, double seconds) {
  if (rows < 1 || rows > kMost) return;
  double& time = times_[static_cast<size_t>(rows)];
  time = time == 0 || seconds < time ? seconds : time + (seconds - time) * kMemory;
}

// One row more than was ever made, to see what it takes; at first as much as each of those before it.
int64_t StepTimes::known_rows() const {
  int64_t most = 0;
  for (int64_t rows = 1; rows <= kMost; ++rows) {
    if (times_[static_cast<size_t>(rows)] > 0) most = rows;
  }
  return most == 0 ? 0 : std::min(most + 1, kMost);
}

double StepTimes::seconds(int64_t rows) const {
  int64_t below = 0, above = 0, before = 0;  // the nearest that are known; `before` below `below`
  for (int64_t r = 1; r <= kMost; ++r) {
    if (times_[static_cast<size_t>(r)] == 0) continue;
    if (r > rows) {
      above = above == 0 ? r : above;
    } else {
      before = below;
      below = r;
    }
  }
  const auto at = [&](int64_t r) { return times_[static_cast<size_t>(r)]; };
  if (below == 0) return above == 0 ? 0 : at(above);  // fewer rows take no longer
  if (below == rows) return at(below);
  const auto share = [&](int64_t from, int64_t to) {
    return std::max(0., at(to) - at(from)) / static_cast<double>(to - from);
  };
  const double each = above > 0    ? share(below, above)
                      : before > 0 ? share(before, below)
                                   : at(below) / static_cast<double>(below);
  return at(below) + each * static_cast<double>(rows - below);
}

std::vector<int64_t> share_drafts(const StepTimes& times, std::span<const std::vector<double>> chances) {
  std::vector<int64_t> shares(chances.size(), 0);
  int64_t rows = std::ssize(chances);
  const int64_t most = times.known_rows();
  auto tokens = static_cast<double>(rows);
  double seconds = times.seconds(rows);
  while (rows < most && seconds > 0) {
    size_t best = 0;
    double chance = 0;
    for (size_t i = 0; i < chances.size(); ++i) {
      const auto next = static_cast<size_t>(shares[i]);
      if (next >= chances[i].size() || chances[i][next] <= chance) continue;
      best = i;
      chance = chances[i][next];
    }
    if (chance == 0) break;  // nothing is announced that is not shared out, whatever a row may cost
    const double longer = times.seconds(rows + 1);
    if ((tokens + chance) * seconds <= tokens * longer) break;
    ++shares[best];
    ++rows;
    tokens += chance;
    seconds = longer;
  }
  return shares;
}

}  // namespace fovea
