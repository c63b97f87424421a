// Options of a caller as the engine takes them.
#pragma once

#include <fovea/engine.h>

#include "runtime/batch_engine.h"
#include "runtime/engine.h"

namespace fovea {

// But for `context`. Throws Error(invalid_argument) naming the option.
EngineOptions engine_options_of(const v0::EngineOptions& given);
// Throws Error(invalid_argument) naming the option.
BatchLimits batch_limits_of(const v0::EngineOptions& given, const Engine& engine);
// Of the engine; as many as keep this process's processors busy where none is said.
int threads_of(const v0::EngineOptions& given);

}  // namespace fovea
