// What each implementation would allocate for a problem; attention_scratch_bytes() chooses among them.
#pragma once

#include "attention/problem.h"

namespace fovea {

int64_t eager_scratch_bytes(const AttentionProblem& problem);
int64_t sdpa_scratch_bytes(const AttentionProblem& problem);
int64_t flash_scratch_bytes(const AttentionProblem& problem);

// Aborts unless shapes, segments and pointers of the problem fit together.
void check_problem(const AttentionProblem& problem);

}  // namespace fovea
