// What each implementation would allocate for a problem; attention_scratch_bytes() chooses among them.
#pragma once

#include "attention/problem.h"

namespace fovea {

int64_t eager_scratch_bytes(const AttentionProblem& problem);
int64_t sdpa_scratch_bytes(const AttentionProblem& problem);
int64_t flash_scratch_bytes(std::span<const AttentionProblem> problems);

// flash_attention_2 of each, as one list of work.
void flash_attention_2(std::span<const AttentionProblem> problems);

// `floats` of working memory: the problem's own if it brings some, else `own`.
inline float* scratch_of(const AttentionProblem& problem, int64_t floats, Buffer<float>& own) {
  Buffer<float>& scratch = problem.scratch != nullptr ? *problem.scratch : own;
  scratch.reserve(floats);
  return scratch.data();
}

// Aborts unless shapes, segments and pointers of the problem fit together.
void check_problem(const AttentionProblem& problem);

}  // namespace fovea
