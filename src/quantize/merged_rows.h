// The arithmetic of a merge: rows of W + scale * B A.
#pragma once

#include <vector>

#include "checkpoint/lora_adapter.h"

namespace fovea {

// One change, ready to be added to rows of its weight.
class MergedRows {
 public:
  // `scale` comes on top of the change's own.
  MergedRows(const LoraChange& change, double scale);

  // row[0 .. cols) of W becomes that of W', in fp64.
  void add_to(int64_t r, double* row) const;
  int64_t cols() const { return cols_; }

 private:
  int64_t rank_, cols_;
  std::vector<double> left_, right_, magnitude_;  // [rows, rank] times the scale, [rank, cols], [rows]
};

}  // namespace fovea
