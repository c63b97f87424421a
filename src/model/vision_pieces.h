// How the attention of a vision block is cut into pieces of work: rows of a segment are independent of each
// other, and segments, too, so that no result depends on it.
#pragma once

#include <span>
#include <vector>

#include "attention/problem.h"

namespace fovea {

// Rows [first_row, first_row + rows): whole segments, or a part of one.
struct VisionPiece {
  int64_t first_row = 0, rows = 0;
  int64_t first_key = 0, keys = 0;         // what they attend to lies in these rows
  size_t first_segment = 0, segments = 0;  // 0: a part of one
};

// bounds: cu_seqlens. Pieces have about `rows` rows.
std::vector<VisionPiece> vision_pieces(std::span<const int64_t> bounds, int64_t rows);

// The piece of a problem whose cu_seqlens are the bounds; `bounds` keeps those of the piece.
AttentionProblem problem_of_piece(const AttentionProblem& whole, const VisionPiece& piece,
                                  std::vector<int64_t>& bounds);

// Rows that keep so many threads busy for some tenths of a second at most.
int64_t rows_of_vision_piece(int threads);

}  // namespace fovea
