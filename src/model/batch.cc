#include "model/batch.h"

#include <algorithm>

namespace fovea {

void cut_batch(std::span<Segment> segments, int64_t rows_at_once, std::vector<BatchPiece>& pieces,
               std::vector<BatchPart>& parts) {
  pieces.clear();
  parts.clear();
  for (Segment& segment : segments) {
    for (int64_t offset = 0; offset < segment.count;) {
      if (pieces.empty() || pieces.back().rows == rows_at_once) {
        const int64_t first_row = pieces.empty() ? 0 : pieces.back().first_row + pieces.back().rows;
        pieces.push_back({first_row, 0, parts.size(), 0});
      }
      BatchPiece& piece = pieces.back();
      const int64_t count = std::min(segment.count - offset, rows_at_once - piece.rows);
      parts.push_back({&segment, offset, count, piece.rows});
      ++piece.parts;
      piece.rows += count;
      offset += count;
    }
  }
}

}  // namespace fovea
