// How a problem is cut: segments into tiles of queries (the unit of parallel work), keys into tiles and
// splits.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/problem.h"
#include "base/rounding.h"

namespace fovea {

// Keys are visited in tiles and tiles are grouped into splits. Both boundaries are counted from the first key
// of the segment, never from the query, and partial sums are always combined in ascending order: that alone
// makes a query's result independent of the queries around it.
inline constexpr int64_t kKeyTile = 64;
inline constexpr int64_t kKeySplit = 512;
static_assert(kPageTokens % kKeyTile == 0);  // the rows of a tile follow each other

// Some queries of one segment with all query heads that share `kv_head`. Row i * group + g of a tile's
// matrices belongs to query first_query + i and query head kv_head * group + g.
struct QueryTile {
  int64_t kv_head, first_query, queries;
  int64_t first_key, keys;  // the range that holds every key visible to any of the queries
};

// The tiles of a problem, found by index without a list that grows with the number of tokens.
class QueryTiles {
 public:
  // A tile has at most `rows_max` rows, but always at least one query.
  QueryTiles(const AttentionProblem& problem, int64_t rows_max);

  int64_t count() const { return tiles_ * problem_.k.heads; }
  // In order of segment, then kv head (its K and V stay in cache), then descending query (the last causal
  // tiles are the lightest, so that no worker is left alone with a heavy one).
  QueryTile operator[](int64_t index) const;
  int64_t group() const { return group_; }
  // Rows of the largest tile, and keys of the longest segment.
  int64_t rows_max() const { return queries_per_tile_ * group_; }
  int64_t keys_max() const { return keys_max_; }

 private:
  int64_t segment_begin(int64_t segment) const;
  int64_t segment_end(int64_t segment) const;

  const AttentionProblem& problem_;
  int64_t group_, queries_per_tile_, keys_max_ = 0;
  std::vector<int64_t> tiles_before_;  // of several segments: one for each, and the total
  int64_t tiles_ = 0;                  // per kv head
};

// Independent (query range, key range) pairs: one, or those of cu_seqlens.
int64_t segment_count(const AttentionProblem& problem);
// The number of leading keys of its segment that `query` may attend to, when it is in the causal or only
// segment.
int64_t causal_keys(const AttentionProblem& problem, int64_t query);

}  // namespace fovea
