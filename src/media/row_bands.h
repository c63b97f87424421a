// Rows of pixels shared out over threads.
#pragma once

#include <algorithm>

#include "base/parallel.h"

namespace fovea {

// Runs body(first, count) for bands of rows that together are all rows: bands large enough to be worth a
// thread, because waking one costs about as much as 100,000 operations, more on a busy machine, so small
// pictures stay on the calling thread. `row_cost` is the number of operations in a row, roughly. Every band
// but the last has a multiple of `block` rows.
template <typename Body>
void for_each_band(int64_t rows, int64_t row_cost, int64_t block, Body body) {
  constexpr int64_t kBandCost = 1 << 17;
  const int64_t wanted = kBandCost / std::max<int64_t>(row_cost, 1) / block * block;
  const int64_t band = std::clamp<int64_t>(wanted, block, std::max(rows, block));
  parallel_for((rows + band - 1) / band, [&](int64_t i) { body(i * band, std::min(band, rows - i * band)); });
}

// The same for body(row).
template <typename Body>
void for_each_row(int64_t rows, int64_t row_cost, Body body) {
  for_each_band(rows, row_cost, 1, [&](int64_t first, int64_t count) {
    for (int64_t row = first; row < first + count; ++row) body(row);
  });
}

}  // namespace fovea
