// Embeddings of pictures, kept for those who bring the same picture again, and the numbers that stand for
// pictures.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "media/picture_digest.h"

namespace fovea {

using Embeddings = std::shared_ptr<const Buffer<float>>;  // [tokens, out_hidden_size]

// For one thread.
class VisionCache {
 public:
  // Embeddings that nobody holds take at most so many bytes.
  explicit VisionCache(int64_t budget_bytes) : budget_(budget_bytes) {}

  // The same number for the same digest, which is compared in full; never one for another. A number takes 100
  // bytes as long as the cache lives.
  uint64_t number_of(const Digest& digest);

  // Null when they are not here.
  Embeddings find(uint64_t number);
  Embeddings put(uint64_t number, Buffer<float> embeddings);
  // Lets go what is beyond the budget and held by nobody else, least recently used first; which numbers that
  // were.
  std::vector<uint64_t> shrink();

  int64_t bytes() const { return bytes_; }
  int64_t hits() const { return hits_; }

 private:
  struct Entry {
    uint64_t number;
    Embeddings embeddings;
  };
  static int64_t bytes_of(const Entry& entry) {
    return entry.embeddings->size() * static_cast<int64_t>(sizeof(float));
  }

  int64_t budget_, bytes_ = 0, hits_ = 0;
  std::map<Digest, uint64_t> numbers_;
  std::list<Entry> entries_;  // the most recently used first
  std::unordered_map<uint64_t, std::list<Entry>::iterator> by_number_;
};

}  // namespace fovea
