// The few statistics an audit needs.
#pragma once

#include <cstdint>
#include <vector>

namespace fovea {

struct Interval {
  double low = 0, high = 1;
};

// The Wilson score interval of `correct` of `count` at 95 % (Wilson 1927): never leaves [0, 1], and is right
// for small counts and for shares near 0 and 1, where the usual p +- 1.96 s is not. [0, 1] for count 0.
Interval wilson_interval(int64_t correct, int64_t count);

// The value below which `share` of the sorted values lie, by linear interpolation between neighbours (numpy's
// default). Requires values that are sorted and not empty.
double quantile(const std::vector<double>& sorted, double share);

double mean(const std::vector<double>& values);  // 0 for none

// KL(p || q) in nats of the distributions that two rows of logits state, log-softmax in f64. Never negative
// beyond rounding: values below zero are returned as 0.
double kl_divergence(const float* p_logits, const float* q_logits, int64_t vocab);

}  // namespace fovea
