// A batch engine for one request at a time, with memory for so many tokens: what a single answer, an
// evaluation and a session run on. Private to runtime.
#pragma once

#include "runtime/batch_job.h"
#include "runtime/state.h"

namespace fovea {

class SoloRun {
 public:
  // Blocks for `capacity` tokens, taken as they are used. `chunk` tokens of a prompt go through the layers at
  // once, 0: all. The engine is borrowed, and so is what the observer refers to.
  SoloRun(const EngineState& engine, int64_t capacity, int64_t chunk, const Observer& observer);

  // To its end; the observer's cancel ends it, too. Throws what it fails of.
  Answer run(BatchJob job);

 private:
  BatchEngine batch_;
};

// Further tokens behind a prompt.
void append(Prompt& words, std::span<const int32_t> tokens);

}  // namespace fovea
