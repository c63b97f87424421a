// What rounding the scores of attention costs: the formula, and the alarm for rows where it costs too much.
#pragma once

#include "base/precision.h"

namespace fovea {

// Expected relative error of one attention row against exact attention of the same Q, K, V:
//   E = x / sqrt(1 + x^2),  x = c A S u
// S is the row's largest |scaled score|, A = sqrt(sum p^2 |v - o|^2) / |o| says how much of a change of the
// weights reaches the output, u is the unit roundoff of the scores (2^-8 bf16, 2^-11 fp16, 2^-24 fp32).
// Derivation: rounding a number of ulp h' adds uniform noise of variance h'^2 / 12 to a logit; averaged over
// the mantissa the squared ulp of S is (0.735 * 2 u S)^2; two independent roundings (product, scaling) give c
// = 0.735 * 2 * sqrt(2 / 12) = 0.600, one gives 0.424; a weight's relative noise is the logit's, and the
// denominator is its saturation: once all keys share a bin the weights are uniform and the error stops
// growing. The rounding of P adds (0.42 A 2u) and that of the output (0.42 * 2u), in quadrature (0.42 = 0.735
// / sqrt(3): half an ulp of uniform noise relative to the value). NaN where the formula does not apply: with
// a row-max shift or K-centring it is not S that is rounded.
double predicted_attention_error(const AttentionPrecision& precision, double largest_score, double spread);

// Whether scores are rounded to 16 bits at all, and what then makes a row unsafe: S u > 1/8, where an error
// beyond 10 % begins (missed 0 of 2339 unsafe rows, 2 % false alarms on synthetic heads).
bool scores_are_rounded(const AttentionPrecision& precision);
bool scores_are_rounded(
    const TowerPrecision& layer);  // not with a bias split: it leaves small scores to round
bool row_at_risk(const AttentionPrecision& precision, double largest_score);

// Whether a score overflows the type it is stored in; raw = scaled / scale.
bool score_overflows(const AttentionPrecision& precision, double largest_score, double scale);

}  // namespace fovea
