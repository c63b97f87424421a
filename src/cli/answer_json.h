// The one JSON object that `fovea run --json` prints.
#pragma once

#include <nlohmann/json.hpp>

#include "runtime/engine.h"

namespace fovea {

nlohmann::ordered_json pictures_json(const Prompt& prompt, int64_t merge_size);
nlohmann::ordered_json answer_json(const Engine& engine, const Prompt& prompt, const Answer& answer);

// The largest resident set of this process so far.
int64_t peak_memory_bytes();

}  // namespace fovea
