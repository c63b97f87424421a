// Rows of pixels shared out over threads.
#pragma once

#include <algorithm>

#include "base/parallel.h"

namespace fovea {

// Runs body(row) for every row, in bands of rows large enough to be worth a thread: waking one costs about as
// much as 100,000 operations, more on a busy machine, so small pictures stay on the calling thread.
// `row_cost` is the number of operations in a row, roughly.
template <typename Body>
void for_each_row(int64_t rows, int64_t row_cost, Body body) {
  constexpr int64_t kBandCost = 1 << 17;
  const int64_t band =
      std::clamp<int64_t>(kBandCost / std::max<int64_t>(row_cost, 1), 1, std::max<int64_t>(rows, 1));
  parallel_for((rows + band - 1) / band, [&](int64_t i) {
    for (int64_t row = i * band; row < std::min(rows, (i + 1) * band); ++row) body(row);
  });
}

}  // namespace fovea
