// Memory that a configuration needs for one prompt, computed from shapes: what does not depend on the
// machine.
#pragma once

#include "base/precision.h"
#include "checkpoint/checkpoint.h"

namespace fovea {

struct PromptShape {
  int64_t tokens = 0;           // prompt
  int64_t answer_tokens = 0;    // at most
  int64_t largest_patches = 0;  // of one picture
  int64_t prefill_chunk = 512;  // 0: whole
};

struct MemoryPlan {
  int64_t weights = 0;    // as they are computed with: widened, or quantized
  int64_t attention = 0;  // working memory of one attention call, the larger tower
  int64_t kv_cache = 0;
  int64_t activations = 0;  // of one layer of the decoder, f32 containers
  // Bytes of the score matrices of all layers of both towers, as transformers stores them: product, scaled
  // score and probabilities, N x N x heads each, for eager; nothing for the fused implementations.
  int64_t scores = 0;
  int64_t peak() const { return attention + kv_cache + activations; }
};

MemoryPlan memory_plan(const Checkpoint& checkpoint, const Precision& precision, const PromptShape& shape);

}  // namespace fovea
