// Where a query looks: the softmax weights that attention gives its keys, which the fused path never keeps.
#pragma once

#include <span>

#include "attention/problem.h"

namespace fovea {

// out[heads_q, tokens_kv]: exp(s_j - max s) / sum of these, of the given (rounded) Q and K, for one query; 0
// where it may not look. Scores are sums of products in f64, so these are the exact weights of what attention
// is given, not those of an implementation that rounds on its way. Memory grows with tokens_kv alone.
// Parallel inside; no result depends on the number of threads. Not for problems with cu_seqlens.
void attention_weights(const AttentionProblem& problem, int64_t query, std::span<float> out);

}  // namespace fovea
