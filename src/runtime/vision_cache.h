// Embeddings of pictures, kept for those who bring the same picture again, and the numbers that stand for
// pictures.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
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

  // A number for the digest, which is compared in full; never one that another has or had, nor one of another
  // space: those who share no cache. Of digests without embeddings here the last kMostNumbers are remembered.
  uint64_t number_of(uint64_t space, const Digest& digest);

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

  static constexpr size_t kMostNumbers = size_t{1} << 16;  // 100 bytes each

  int64_t budget_, bytes_ = 0, hits_ = 0;
  uint64_t next_number_ = 1;
  std::map<std::pair<uint64_t, Digest>, uint64_t> numbers_;
  std::list<Entry> entries_;  // the most recently used first
  std::unordered_map<uint64_t, std::list<Entry>::iterator> by_number_;
};

}  // namespace fovea
