#include "runtime/vision_cache.h"

namespace fovea {

uint64_t VisionCache::number_of(const Digest& digest) {
  return numbers_.try_emplace(digest, numbers_.size() + 1).first->second;
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
