#include "runtime/prompt_lookup.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/error.h"

namespace fovea {

namespace {

uint64_t hash(std::span<const int32_t> gram) {
  uint64_t h = 0;
  for (const int32_t id : gram) {
    h = (h ^ static_cast<uint32_t>(id)) * 0x9e3779b97f4a7c15;
    h ^= h >> 32;
  }
  return h;
}

}  // namespace

PromptLookup::PromptLookup(int64_t capacity, std::vector<int64_t> barred) : barred_(std::move(barred)) {
  ids_.reserve(static_cast<size_t>(capacity));
  for (auto& table : tables_) table.assign(std::bit_ceil(2 * static_cast<size_t>(capacity) + 1), 0);
}

bool PromptLookup::barred(int32_t id) const {
  return std::find(barred_.begin(), barred_.end(), id) != barred_.end();
}

void PromptLookup::extend(std::span<const int32_t> ids) {
  FOVEA_CHECK(ids.size() >= ids_.size() && ids.size() <= ids_.capacity());
  for (const int32_t id : ids.subspan(ids_.size())) append(id);
}

void PromptLookup::append(int32_t id) {
  ids_.push_back(id);
  words_ = barred(id) ? 0 : words_ + 1;
  match_ = 0;
  for (int64_t n = kShortest; n <= std::min(kLongest, words_); ++n) {
    const int32_t earlier = std::exchange(entry(n), static_cast<int32_t>(size()));
    if (earlier == 0 || barred(ids_[static_cast<size_t>(earlier)])) continue;
    match_ = n;
    source_ = earlier;
  }
}

int32_t& PromptLookup::entry(int64_t n) {
  std::vector<int32_t>& table = tables_[static_cast<size_t>(n - kShortest)];
  const auto gram = std::span(ids_).last(static_cast<size_t>(n));
  size_t at = hash(gram) & (table.size() - 1);
  const auto other = [&](int32_t end) {
    return !std::equal(gram.begin(), gram.end(), ids_.begin() + end - n);
  };
  while (table[at] != 0 && other(table[at])) at = (at + 1) & (table.size() - 1);
  return table[at];
}

void PromptLookup::announce(int64_t most, std::vector<int32_t>& to) const {
  to.clear();
  if (match_ == 0) return;
  const int64_t period = size() - source_;
  for (int64_t i = 0; i < most; ++i) {
    const int32_t id = ids_[static_cast<size_t>(source_ + i % period)];
    if (barred(id)) return;
    to.push_back(id);
  }
}

}  // namespace fovea
