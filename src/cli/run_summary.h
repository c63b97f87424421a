// What `fovea run` says on standard error behind an answer.
#pragma once

#include "runtime/engine.h"

namespace fovea {

// Pictures, times and memory; with --verbose also how it was computed.
void print_summary(const Engine& engine, const Prompt& prompt, const GenerationOptions& options,
                   const Answer& answer);

// In the unit that shows three digits: "261 µs", "12.5 ms", "3.41 s", "174 s".
std::string seconds_text(double seconds);

}  // namespace fovea
