// Rotary frequencies of the text decoder, plain or stretched by YaRN.
#pragma once

#include <vector>

#include "checkpoint/config.h"

namespace fovea {

// One frequency for each rotary pair: in f32 as transformers computes it, rounded to `type`; exact for f64.
std::vector<double> text_frequencies(const TextConfig& config, DType type);

// What cos and sin of the angles are multiplied by.
float text_rotary_scale(const TextConfig& config);

}  // namespace fovea
