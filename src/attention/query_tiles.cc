#include "attention/query_tiles.h"

#include <algorithm>

namespace fovea {

int64_t segment_count(const AttentionProblem& problem) {
  return problem.cu_seqlens.empty() ? 1 : static_cast<int64_t>(problem.cu_seqlens.size()) - 1;
}

int64_t causal_keys(const AttentionProblem& problem, int64_t query) {
  if (!problem.causal) return problem.k.tokens;
  return std::clamp<int64_t>(query + 1 + problem.k.tokens - problem.q.tokens, 0, problem.k.tokens);
}

QueryTiles::QueryTiles(const AttentionProblem& problem, int64_t rows_max)
    : problem_(problem), group_(problem.q.heads / problem.k.heads) {
  const int64_t segments = segment_count(problem);
  int64_t queries_max = 1;
  for (int64_t s = 0; s < segments; ++s) {
    queries_max = std::max(queries_max, segment_end(s) - segment_begin(s));
    keys_max_ = std::max(keys_max_,
                         problem.cu_seqlens.empty() ? problem.k.tokens : segment_end(s) - segment_begin(s));
  }
  queries_per_tile_ = std::clamp<int64_t>(rows_max / group_, 1, queries_max);
  if (segments > 1) tiles_before_.reserve(static_cast<size_t>(segments) + 1);
  for (int64_t s = 0; s < segments; ++s) {
    if (segments > 1) tiles_before_.push_back(tiles_);
    tiles_ += divide_up(segment_end(s) - segment_begin(s), queries_per_tile_);
  }
  if (segments > 1) tiles_before_.push_back(tiles_);
}

int64_t QueryTiles::segment_begin(int64_t segment) const {
  return problem_.cu_seqlens.empty() ? 0 : problem_.cu_seqlens[static_cast<size_t>(segment)];
}

int64_t QueryTiles::segment_end(int64_t segment) const {
  return problem_.cu_seqlens.empty() ? problem_.q.tokens
                                     : problem_.cu_seqlens[static_cast<size_t>(segment) + 1];
}

QueryTile QueryTiles::operator[](int64_t index) const {
  const int64_t heads = problem_.k.heads;
  int64_t segment = 0, before = 0, tiles = tiles_;
  if (!tiles_before_.empty()) {
    const auto after = std::upper_bound(tiles_before_.begin(), tiles_before_.end(), index / heads);
    segment = after - tiles_before_.begin() - 1;
    before = *(after - 1);
    tiles = *after - before;
  }
  const int64_t within = index - before * heads;
  QueryTile tile{};
  tile.kv_head = within / tiles;
  tile.first_query = segment_begin(segment) + (tiles - 1 - within % tiles) * queries_per_tile_;
  tile.queries = std::min(queries_per_tile_, segment_end(segment) - tile.first_query);
  if (problem_.cu_seqlens.empty()) {
    tile.first_key = 0;
    tile.keys = causal_keys(problem_, tile.first_query + tile.queries - 1);
  } else {
    tile.first_key = segment_begin(segment);
    tile.keys = segment_end(segment) - tile.first_key;
  }
  return tile;
}

}  // namespace fovea
