#include "runtime/vision_cache.h"

namespace fovea {

// Who brings a picture whose number was forgotten gets another one: it is encoded again, with the same
// result.
uint64_t VisionCache::number_of(uint64_t space, const Digest& digest) {
  if (numbers_.size() >= kMostNumbers + entries_.size()) {
    std::erase_if(numbers_, [&](const auto& known) { return !by_number_.contains(known.second); });
  }
  const auto [known, is_new] = numbers_.try_emplace({space, digest}, next_number_);
  if (is_new) ++next_number_;
  return known->second;
}

Embeddings VisionCache::find(uint64_t number) {
  const auto found = by_number_.find(number);
  if (found == by_number_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  ++hits_;
  return found->second->embeddings;
}

Embeddings VisionCache::put(uint64_t number, Buffer<float> embeddings) {
  FOVEA_CHECK(!by_number_.contains(number));
  entries_.push_front({number, std::make_shared<const Buffer<float>>(std::move(embeddings))});
  by_number_[number] = entries_.begin();
  bytes_ += bytes_of(entries_.front());
  return entries_.front().embeddings;
}

std::vector<uint64_t> VisionCache::shrink() {
  std::vector<uint64_t> gone;
  for (auto entry = entries_.end(); bytes_ > budget_ && entry != entries_.begin();) {
    --entry;
    if (entry->embeddings.use_count() > 1) continue;
    bytes_ -= bytes_of(*entry);
    gone.push_back(entry->number);
    by_number_.erase(entry->number);
    entry = entries_.erase(entry);
  }
  return gone;
}

}  // namespace fovea
