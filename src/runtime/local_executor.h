// Steps in this process. Private to runtime.
#pragma once

#include "runtime/executor.h"

namespace fovea {

KvLayout kv_layout(const EngineState& engine);

// The engine is borrowed. Throws Error(exhausted) when `kv_cache_bytes` hold no block.
std::unique_ptr<Executor> local_executor(const EngineState& engine, int64_t kv_cache_bytes);

}  // namespace fovea
