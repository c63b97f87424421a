// Requests of a model that is split over ranks (pipeline.h), one loop of their own each until an executor
// carries the steps of a batch over ranks. Private to runtime.
#pragma once

#include "runtime/continuation.h"
#include "runtime/state.h"

namespace fovea {

// As Engine::generate and Engine::evaluate.
Answer generate_over_ranks(const EngineState& engine, const Prompt& prompt, const GenerationOptions& options,
                           const Observer& observer);
Evaluation evaluate_over_ranks(const EngineState& engine, const Prompt& prompt, int64_t prefill_chunk,
                               const Observer& observer);
std::unique_ptr<Continuation> continuation_over_ranks(const EngineState& engine, const Prompt& prompt,
                                                      const Buffer<float>& vision,
                                                      const GenerationOptions& options,
                                                      const Observer& observer, int64_t capacity);

}  // namespace fovea
