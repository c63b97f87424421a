#include "model/vision_pieces.h"

#include <algorithm>

#include "model/vision_tower.h"

namespace fovea {

namespace {

// Tokens from `first` on.
HeadsView tokens_of(HeadsView view, int64_t first, int64_t count) {
  if (view.data != nullptr) view.data = view.at(first, 0);
  view.tokens = count;
  return view;
}

}  // namespace

std::vector<VisionPiece> vision_pieces(std::span<const int64_t> bounds, int64_t rows) {
  std::vector<VisionPiece> pieces;
  for (size_t s = 0; s + 1 < bounds.size(); ++s) {
    const int64_t begin = bounds[s], end = bounds[s + 1];
    if (end - begin > rows) {
      for (int64_t at = begin; at < end; at += rows) {
        pieces.push_back({at, std::min(rows, end - at), begin, end - begin, s, 0});
      }
    } else if (!pieces.empty() && pieces.back().segments > 0 && pieces.back().rows + end - begin <= rows) {
      VisionPiece& last = pieces.back();
      last.rows += end - begin;
      last.keys = last.rows;
      ++last.segments;
    } else {
      pieces.push_back({begin, end - begin, begin, end - begin, s, 1});
    }
  }
  return pieces;
}

AttentionProblem problem_of_piece(const AttentionProblem& whole, const VisionPiece& piece,
                                  std::vector<int64_t>& bounds) {
  AttentionProblem problem = whole;
  problem.q = tokens_of(whole.q, piece.first_row, piece.rows);
  problem.k = tokens_of(whole.k, piece.first_key, piece.keys);
  problem.v = tokens_of(whole.v, piece.first_key, piece.keys);
  if (whole.out != nullptr) problem.out = whole.out + piece.first_row * whole.q.heads * whole.q.head_dim;
  bounds.clear();
  for (size_t s = 0; piece.segments > 0 && s <= piece.segments; ++s) {
    bounds.push_back(whole.cu_seqlens[piece.first_segment + s] - piece.first_row);
  }
  problem.cu_seqlens = bounds;
  return problem;
}

int64_t rows_of_vision_piece(int threads) {
  constexpr int64_t kRowsPerThread = VisionTower::kRowsPerPass / 2;
  return std::max(VisionTower::kRowsPerPass, kRowsPerThread * threads);
}

}  // namespace fovea
