// How much work a forward pass is: the amounts that `fovea bench` divides by times, and that `fovea advise`
// divides by rates. Operations are the useful ones, a multiplication and an addition counting as two; bytes
// are those that must be read.
#pragma once

#include "base/precision.h"
#include "checkpoint/config.h"
#include "media/media.h"

namespace fovea::bench {

// Of a stored weight with its share of a group's scale; the scale of an output channel is left out.
double bytes_per_weight(Quantization quantization, DType type);

// Operations of all decoder layers' projections, per token.
double projection_operations(const TextConfig& config);
// Operations of the prefill of so many tokens: projections, causal scores, the output head of one token.
double prefill_operations(const TextConfig& config, int64_t tokens);
// Bytes that one decoded token must read: every weight of the decoder, the output head, K and V of `depth`
// tokens.
double decode_bytes(const TextConfig& config, const LayeredPrecision& text, int64_t depth);
// Operations of the vision tower for one frame group (grid.t is 1): patch embedding, blocks with their window
// or full attention, merger.
double vision_operations(const VisionConfig& config, const Grid& grid);

}  // namespace fovea::bench
