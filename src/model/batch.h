// Rows of several sequences that go through the decoder together.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "model/kv_cache.h"
#include "model/layer_observer.h"

namespace fovea {

// The rows that one sequence has in a step: tokens behind those in its cache. In a batch's matrices they
// follow those of the segment before. Everything is borrowed for the length of the call.
struct Segment {
  KvCache* cache = nullptr;
  int64_t count = 0;
  std::array<std::span<const int64_t>, 3> positions = {};  // (t, h, w) of `count` tokens each
  GuardReport* guard = nullptr;                            // has an entry for every decoder layer and head
  LayerObserver* observer = nullptr;                       // sees these rows alone
  // Set when one of these rows is not finite: an Error(numeric) naming the layer and the node. The rows are
  // zeros from then on, the cache is not to be used again, and the other segments are none the wiser.
  std::exception_ptr failure = nullptr;
};

inline int64_t rows_of(std::span<const Segment> segments) {
  int64_t rows = 0;
  for (const Segment& segment : segments) rows += segment.count;
  return rows;
}

// Throws the first failure, if there is one: what a batch of one sequence wants.
inline void rethrow_failure(std::span<const Segment> segments) {
  for (const Segment& segment : segments) {
    if (segment.failure) std::rethrow_exception(segment.failure);
  }
}

// Consecutive rows of one segment.
struct BatchPart {
  Segment* segment;
  int64_t offset, count;  // rows of the segment before it, and its own
  int64_t row;            // rows of the piece before it

  int64_t first_token() const { return segment->cache->tokens() + offset; }
};

// So many rows of a batch go through a layer at once; their parts are in the order of the rows.
struct BatchPiece {
  int64_t first_row = 0, rows = 0;
  size_t first_part = 0, parts = 0;
};

// Cuts a batch into pieces of `rows_at_once`; into `pieces` and `parts`, whose memory is reused.
void cut_batch(std::span<Segment> segments, int64_t rows_at_once, std::vector<BatchPiece>& pieces,
               std::vector<BatchPart>& parts);

}  // namespace fovea
