// Exact attention of a few rows, in f64, beside what an implementation made of them.
#pragma once

#include <span>
#include <vector>

#include "attention/problem.h"
#include "audit/layer_sums.h"

namespace fovea {

// Adds the given query rows of an attended problem to `heads` (grown to problem.q.heads): largest |scaled
// score|, rows at risk, overflows; with `measure` also the error of problem.out against exact attention of
// the same Q, K, V, the formula's spread A and the error it predicts. Heads run in parallel.
void examine_rows(const AttentionProblem& problem, std::span<const int64_t> rows, bool measure,
                  std::vector<HeadSums>& heads);

}  // namespace fovea
