// What a request says of its answers, as the engine takes it.
#pragma once

#include "api/answer_fields.h"
#include "runtime/engine.h"

namespace fovea {

// `defaults`, the checkpoint's own (Engine::default_generation()), with what the request states in their
// place; so does vLLM. In particular a temperature alone leaves the checkpoint's top_k and top_p, and Qwen's
// are nearly greedy: who wants to sample states all three. Without max_tokens the defaults' limit holds, not
// the rest of the context. Stated stop strings take the place of the checkpoint's. `choice`, from 0 to
// request.n - 1: each has the seed after the one before. Any thread.
GenerationOptions generation_options(const AnswerFields& request, const GenerationOptions& defaults,
                                     int64_t choice = 0);

}  // namespace fovea
