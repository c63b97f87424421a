// From the flags of a command to a plan of its memory, and the refusal of what does not fit.
#pragma once

#include "cli/engine_flags.h"
#include "plan/plan_text.h"

namespace fovea {

// What the flags ask for, as the planner wants it; without text and pictures.
PlanSetup plan_setup(const EngineFlags& flags, const Checkpoint& checkpoint);

// Refuses in three steps, each before what it refuses is done: weights before they are read, pictures and
// text before patches are made.
class MemoryCheck {
 public:
  // `ram`: as given by --ram. Throws Error(exhausted) when even the weights and one token do not fit.
  MemoryCheck(const EngineFlags& flags, const std::optional<std::string>& ram);

  // For Engine::prepare.
  PromptCheck of(const Engine& engine, int64_t max_new_tokens);

 private:
  const EngineFlags& flags_;
  std::optional<int64_t> ram_;
  int64_t files_ = 0;  // resident program files before weights are read
};

}  // namespace fovea
