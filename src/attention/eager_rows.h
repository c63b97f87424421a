// One row of eager's scores: from raw f32 products to probabilities, rounding at every node it stores. Here
// are the cures of that rounding (row maximum, centred keys) and the guard's check of a row.
#pragma once

#include <vector>

#include "attention/problem.h"

namespace fovea {

class EagerRows {
 public:
  explicit EagerRows(const AttentionProblem& problem);

  // row: [keys] raw products of `query` (an index into problem.q) with the keys of its segment, room for
  // round_up(keys, kKeyTile); becomes P, rounded. Returns what P.V is to be divided by. `seen`, unless null,
  // is added to, and decides in `escalate` whether this row keeps fp32 scores.
  float to_probabilities(int64_t query, int64_t keys, float* row, HeadGuard* seen) const;

  // q, or k, times the scale it takes before the product.
  void scale_operand(float* x, int64_t count) const;
  // The factor scale_operand() applies: 1 where the scale comes later.
  float operand_factor() const;

 private:
  float factor_of_raw() const;
  void centre(float* row, int64_t visible, int64_t keys, std::vector<float>& corrections) const;
  bool at_risk(const float* row, int64_t visible, int64_t keys, HeadGuard& seen) const;
  bool unmasks(const float* masked, int64_t count) const;
  void scale_scores(const AttentionPrecision& nodes, float* row, int64_t visible, int64_t keys) const;
  void mask_scores(const AttentionPrecision& nodes, float* row, int64_t visible, int64_t keys) const;
  float make_probabilities(int64_t keys, float* row) const;
  float narrow_exp_sum(int64_t columns, float highest, float* row) const;

  const AttentionProblem& problem_;
  const AttentionPrecision nodes_;
  AttentionPrecision wide_;   // nodes_ with fp32 scores: what `escalate` does with a row at risk
  double roundoff_ = 0;       // the coarsest rounding of a score
  bool narrow_fp16_ = false;  // a score is stored in fp16
};

}  // namespace fovea
