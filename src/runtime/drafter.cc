#include "runtime/drafter.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"

namespace fovea {

Drafter::Drafter(std::optional<int64_t> most, ProposeFn propose, int64_t capacity,
                 std::vector<int64_t> barred)
    : most_(most), propose_(std::move(propose)), lookup_(propose_ ? 0 : capacity, std::move(barred)) {
  if (!propose_) draft_.reserve(static_cast<size_t>(std::min(most_.value_or(DraftLength::kMost), capacity)));
}

void Drafter::learn(std::span<const int32_t> ids) {
  if (propose_) return;
  if (lookup_.match() > 0) length_.announced(lookup_.match(), lookup_.next() == ids.back());
  lookup_.extend(ids);
}

std::span<const int32_t> Drafter::draft(std::span<const int32_t> ids, int64_t most) {
  most = std::min(most, most_.value_or(DraftLength::kMost));
  draft_.clear();
  if (most < 1) return draft_;
  if (propose_) {
    draft_ = propose_(ids, most);
    FOVEA_CHECK(std::ssize(draft_) <= most);
    return draft_;
  }
  lookup_.announce(most, draft_);
  if (!most_) draft_.resize(static_cast<size_t>(length_.choose(lookup_.match(), std::ssize(draft_))));
  return draft_;
}

std::span<const int32_t> Drafter::announce(int64_t most, std::vector<double>& chances) {
  lookup_.announce(std::min(most, DraftLength::kMost), draft_);
  length_.chances(lookup_.match(), std::ssize(draft_), chances);
  return draft_;
}

void Drafter::timed(int64_t rows, double seconds) {
  if (!most_ && rows <= DraftLength::kMost + 1 && std::has_single_bit(static_cast<uint64_t>(rows))) {
    length_.timed(rows, seconds);
  }
}

}  // namespace fovea
